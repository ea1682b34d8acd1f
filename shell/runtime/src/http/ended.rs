//! Knows when a connection of a pool has ended.
//!
//! hyper hands a request to its connection over a channel. One that is handed over in the moment
//! in which the connection ends may be left in there: neither sent nor given back, for as long as
//! the pool keeps the connection. So whoever waits for an answer asks here, too, whether there is
//! anybody who could still give one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Extensions, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{
    CaptureConnection, Connected, Connection, HttpConnector,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;
use tower_service::Service;

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type ConnectError = Box<dyn std::error::Error + Send + Sync>;

/// How long is waited after a connection has ended: an answer may be on its way within this
/// process, and one that was not sent is given to another connection, which takes its time to be
/// made (five seconds at most, and its TLS).
const ON_ITS_WAY: Duration = Duration::from_secs(7);

/// Makes connections whose end is seen.
#[derive(Clone, Debug)]
pub(super) struct Watching(pub(super) HttpsConnector<HttpConnector>);

/// Is closed when its connection has ended.
#[derive(Clone, Debug)]
struct Life(watch::Receiver<()>);

/// A connection whose end is seen.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    /// Goes with it.
    life: watch::Sender<()>,
}

impl Service<Uri> for Watching {
    type Response = Watched;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Watched, ConnectError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let stream = connecting.await?;
            let (life, _) = watch::channel(());
            Ok(Watched { stream, life })
        })
    }
}

impl Connection for Watched {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(Life(self.life.subscribe()))
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }
}

/// Completes when the connection that a request was given to has ended, and the request is on no
/// other one.
pub(super) async fn forgotten(mut of: CaptureConnection) {
    loop {
        let Some(Life(mut life)) = life_of(&mut of).await else {
            // It has none and waits for none: its error is on its way.
            return std::future::pending().await;
        };
        while life.changed().await.is_ok() {}
        sleep(ON_ITS_WAY).await;
        // One that was not sent may have been given to another connection.
        let Some(Life(now)) = life_of(&mut of).await else { return };
        if now.same_channel(&life) {
            return;
        }
    }
}

async fn life_of(of: &mut CaptureConnection) -> Option<Life> {
    let mut extras = Extensions::new();
    of.wait_for_connection_metadata().await.as_ref()?.get_extras(&mut extras);
    extras.remove()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use axum::Router;
    use bytes::Bytes;
    use dwcp_types::RegionId;
    use futures_util::FutureExt;
    use http::Request;
    use http_body_util::Full;
    use hyper_util::client::legacy::connect::capture_connection;
    use tokio::sync::oneshot;

    use super::super::client::pool;
    use super::super::{BoundServer, Limits};
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::tls::{
        ClientTls, DevelopmentCa, ExpectedServer, Identity, NODE_LIFETIME, ServerTls,
    };

    /// The race itself is hyper's and has no handle; this is what is asked when it is lost.
    #[tokio::test]
    async fn a_connection_is_seen_to_end_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let clock = SystemClock::new();
        let ca = DevelopmentCa::create(&folder.path().join("ca"), clock.now()).unwrap();
        let region = Identity::Region(RegionId::new("home").unwrap());
        let node = ca.issue(&region, &[], NODE_LIFETIME, clock.now()).unwrap();
        let node = node.write(&folder.path().join("node"), "node").unwrap();
        let tls = ServerTls::load(node.clone()).unwrap();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = BoundServer::bind(at, tls, Limits::default()).await.unwrap();
        let at = server.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.serve(Router::new(), Arc::new(SystemClock::new()), stopped).await;
        });
        let tls = ClientTls::load(node, ExpectedServer::Identity(region)).unwrap();
        let (pool, _) = pool(&tls);
        let ask = |path: &str| {
            let url = format!("https://{at}/{path}");
            let mut request = Request::get(url).body(Full::<Bytes>::default()).unwrap();
            let connection = capture_connection(&mut request);
            (pool.request(request), connection)
        };
        let (first, connection) = ask("first");
        assert_eq!(first.await.unwrap().status(), 404);
        let (again, same) = ask("again");
        assert_eq!(again.await.unwrap().status(), 404);
        for open in [connection.clone(), same.clone()] {
            assert_eq!(forgotten(open).now_or_never(), None, "it is open");
        }
        drop(stop);
        serving.await.unwrap();
        tokio::time::pause();
        tokio::join!(forgotten(connection), forgotten(same));
    }
}
