//! Hands traces that are kept to whoever speaks OTLP over HTTP in JSON, such as a collector.
//!
//! Every region's daemon hands on what is at home there. A receiver that is away for longer than a
//! few tries loses what came meanwhile, which is counted: the traces are on the disk all the same.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use dwcp_api::otlp;
use dwcp_monitor::trace::Span;
use dwcp_runtime::webhook::Webhook;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::OtlpSpec;

/// Traces that wait; each has some kilobytes.
const WAITING_MAX: usize = 1_000;
/// Traces of one request.
const BATCH_MAX: usize = 64;
/// Time for one request.
const SEND_TIME_MAX: Duration = Duration::from_secs(10);
/// Pauses before it is tried again.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// See the module.
#[derive(Debug)]
pub(super) struct Export {
    waiting: mpsc::Sender<Vec<Span>>,
    taken: Mutex<Option<mpsc::Receiver<Vec<Span>>>>,
    to: OtlpSpec,
}

impl Export {
    pub(super) fn new(to: OtlpSpec) -> Self {
        let (waiting, taken) = mpsc::channel(WAITING_MAX);
        Self { waiting, taken: Mutex::new(Some(taken)), to }
    }

    /// Hands a trace on; says whether there was room.
    pub(super) fn hand_on(&self, spans: &[Span]) -> bool {
        self.waiting.try_send(spans.to_vec()).is_ok()
    }

    /// Sends what waits, for ever; tells of spans that are lost.
    pub(super) async fn run(&self, lost: impl Fn(usize)) {
        let taken = self.taken.lock().ok().and_then(|mut taken| taken.take());
        let Some(mut taken) = taken else { return std::future::pending().await };
        let hook = match Webhook::new(self.to.ca_file.as_deref()) {
            Ok(hook) => hook,
            Err(reason) => {
                warn!(%reason, "traces are not handed on: correct `otlp_ca_file`");
                return std::future::pending().await;
            }
        };
        let mut batch = Vec::new();
        while taken.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let spans: Vec<Span> = batch.drain(..).flatten().collect();
            if let Err(reason) = self.send(&hook, &spans).await {
                warn!(%reason, spans = spans.len(), "traces are not handed on");
                lost(spans.len());
            }
        }
    }

    async fn send(&self, hook: &Webhook, spans: &[Span]) -> Result<(), String> {
        let body = serde_json::to_vec(&otlp::write(spans));
        let body = Bytes::from(body.map_err(|error| error.to_string())?);
        let key = spans.first().map(|span| span.id.to_string()).unwrap_or_default();
        let mut pauses = PAUSES.iter();
        loop {
            let sent = hook.send(&self.to.url, (&key, None), body.clone(), SEND_TIME_MAX);
            match (sent.await, pauses.next()) {
                (Ok(()), _) => return Ok(()),
                (Err(reason), None) => return Err(reason),
                (Err(reason), Some(pause)) => {
                    info!(%reason, "traces are handed on again later");
                    tokio::time::sleep(*pause).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dwcp_monitor::trace::{Kind, SpanId, TraceId};
    use dwcp_types::RegionId;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn span() -> Span {
        Span {
            trace: TraceId::of("test", "1"),
            id: SpanId::of(TraceId::of("test", "1"), "1"),
            parent: None,
            entry: true,
            keep: false,
            name: "place_vm".to_owned(),
            kind: Kind::Server,
            region: RegionId::new("eu-west-1").unwrap(),
            process: "dwcpd".to_owned(),
            start_us: 1_764_417_000_000_000,
            took_us: 1_500,
            failed: Some("no region takes it".to_owned()),
            tags: BTreeMap::new(),
        }
    }

    /// One request, answered with 200, and its body.
    async fn serve(listener: TcpListener) -> Vec<u8> {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        loop {
            let mut part = [0; 4_096];
            let len = stream.read(&mut part).await.unwrap();
            asked.extend(&part[..len]);
            let text = String::from_utf8_lossy(&asked).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                stream.write_all(answer).await.unwrap();
                return body.as_bytes().to_vec();
            }
        }
    }

    #[tokio::test]
    async fn a_collector_reads_what_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let export = Export::new(OtlpSpec { url, ca_file: None });
        assert!(export.hand_on(&[span()]));
        let body = tokio::select! {
            () = export.run(|spans| panic!("{spans} lost")) => unreachable!(),
            body = serve(listener) => body,
        };
        let request = serde_json::from_slice(&body).unwrap();
        let (spans, rejected, _) = otlp::read(request, &span().region);
        let process = "other/dwcpd".to_owned();
        assert_eq!((spans, rejected), (vec![Span { process, ..span() }], 0));
    }

    #[tokio::test]
    async fn what_waits_for_a_collector_is_bounded() {
        let url = "http://127.0.0.1:9/v1/traces".to_owned();
        let export = Export::new(OtlpSpec { url, ca_file: None });
        let taken = (0..WAITING_MAX + 5).filter(|_| export.hand_on(&[span()])).count();
        assert_eq!(taken, WAITING_MAX);
    }
}
