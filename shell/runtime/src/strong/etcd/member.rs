//! One member of the cluster as a client sees it: where it is, and the connection to it.
//!
//! The connection is made when it is needed and shared by all calls. Before it is used the
//! member says which version it runs and which cluster it belongs to: one that is known to lose
//! data, or that belongs to another cluster, is refused here and never asked anything else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::grpc::{self, Failure, Messages, Method, Outgoing};
use super::proto::{Empty, StatusCall};
use super::version;
use crate::tls::ClientTls;

/// Time to connect, TLS and the member's own word included: four round trips of the longest
/// WAN (322 ms) and a lost packet.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// A quiet connection is asked for a sign of life. etcd allows no more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long that sign may take.
const PING_TIME_MAX: Duration = Duration::from_secs(3);
/// HTTP/2 windows: a page of records in one go.
const WINDOW_LEN: u32 = 4 << 20;

/// Where a member is and how it is recognised.
#[derive(Clone, Debug)]
pub struct MemberAddress {
    /// Its name in messages; the region it stands in.
    pub name: String,
    /// Its host: an address or a DNS name.
    pub host: String,
    /// Its port for clients.
    pub port: u16,
    /// Our certificate, and whom we expect there.
    pub tls: ClientTls,
}

/// The one cluster that all members must belong to; the first that answers decides.
pub(super) type ClusterId = Arc<OnceCell<u64>>;

/// A member with its connection.
pub(super) struct Member {
    address: MemberAddress,
    authority: String,
    cluster: ClusterId,
    /// The connection and the version of the certificate that it was made with.
    connection: Mutex<Option<(SendRequest<Outgoing>, u64)>>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Member {
    pub(super) fn new(address: MemberAddress, cluster: ClusterId) -> Self {
        let host = &address.host;
        let authority = if host.contains(':') {
            format!("[{host}]:{}", address.port)
        } else {
            format!("{host}:{}", address.port)
        };
        Self { address, authority, cluster, connection: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.address.name
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Asks it, until the deadline. What was not sent by then is not done.
    pub(super) async fn call<M: Method>(
        &self,
        message: &M::Request,
        deadline: Instant,
    ) -> Result<M::Response, Failure> {
        let sender = self.connected(deadline).await?;
        let call = grpc::unary::<M>(sender, &self.authority, message);
        let answer = timeout_at(deadline, call).await;
        self.explained(answer.unwrap_or_else(|_| Err(Failure::Unknown(silence()))))
    }

    /// Opens a stream of answers, until the deadline.
    pub(super) async fn open<M: Method>(
        &self,
        message: &M::Request,
        deadline: Instant,
    ) -> Result<Messages, Failure> {
        let sender = self.connected(deadline).await?;
        let call = grpc::stream::<M>(sender, &self.authority, message);
        let answer = timeout_at(deadline, call).await;
        self.explained(answer.unwrap_or_else(|_| Err(Failure::Unknown(silence()))))
    }

    async fn connected(
        &self,
        deadline: Instant,
    ) -> Result<SendRequest<Outgoing>, Failure> {
        let connected = timeout_at(deadline, self.connection()).await;
        connected
            .unwrap_or_else(|_| Err("it cannot be reached in time".to_owned()))
            .map_err(|reason| Failure::NotDone(self.named(&reason)))
    }

    /// The connection that is there, or a new one. Callers wait for one another here, so that
    /// a member that comes back is met by one handshake and not by a thousand.
    async fn connection(&self) -> Result<SendRequest<Outgoing>, String> {
        let mut held = self.connection.lock().await;
        let version = self.address.tls.current().1;
        if let Some((sender, made_with)) = held.as_ref()
            && !sender.is_closed()
            && *made_with == version
        {
            return Ok(sender.clone());
        }
        *held = None;
        let made = timeout(CONNECT_TIME_MAX, self.connect()).await;
        let sender =
            made.map_err(|_| format!("no connection in {CONNECT_TIME_MAX:?}"))??;
        *held = Some((sender.clone(), version));
        Ok(sender)
    }

    async fn connect(&self) -> Result<SendRequest<Outgoing>, String> {
        let MemberAddress { host, port, tls, .. } = &self.address;
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(text)?;
        tcp.set_nodelay(true).map_err(text)?;
        let name = ServerName::try_from(host.clone()).map_err(text)?;
        let mut config = tls.current().0.as_ref().clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        let stream = TokioIo::new(stream.map_err(text)?);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIME_MAX)
            .initial_stream_window_size(WINDOW_LEN)
            .initial_connection_window_size(WINDOW_LEN)
            .handshake(stream)
            .await
            .map_err(text)?;
        // Ends by itself when the last sender is gone or the connection breaks.
        tokio::spawn(async move { connection.await.unwrap_or_default() });
        self.admit(&sender).await?;
        Ok(sender)
    }

    /// Refuses a member that must not be trusted with records.
    async fn admit(&self, sender: &SendRequest<Outgoing>) -> Result<(), String> {
        let status =
            grpc::unary::<StatusCall>(sender.clone(), &self.authority, &Empty {});
        let status = status.await.map_err(|failure| describe(&failure))?;
        version::admit(&status.version)?;
        let own = status.header.unwrap_or_default().cluster_id;
        let first = *self.cluster.get_or_init(|| async { own }).await;
        if own == first {
            return Ok(());
        }
        Err(format!(
            "it belongs to cluster {own:x} and not, like the others, to {first:x}; \
             correct the list of members"
        ))
    }

    fn explained<T>(&self, answer: Result<T, Failure>) -> Result<T, Failure> {
        answer.map_err(|failure| match failure {
            Failure::NotDone(reason) => Failure::NotDone(self.named(&reason)),
            Failure::Unknown(reason)
                if grpc::is_too_long(&Failure::Unknown(reason.clone())) =>
            {
                Failure::Unknown(reason)
            }
            Failure::Unknown(reason) => Failure::Unknown(self.named(&reason)),
            Failure::Refused(status) => Failure::Refused(status),
        })
    }

    fn named(&self, reason: &str) -> String {
        format!("etcd member {} at {}: {reason}", self.address.name, self.authority)
    }
}

fn silence() -> String {
    "it does not answer in time".to_owned()
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

/// A failure in words.
pub(super) fn describe(failure: &Failure) -> String {
    match failure {
        Failure::NotDone(reason) | Failure::Unknown(reason) => reason.clone(),
        Failure::Refused(status) => format!("{} (code {})", status.message, status.code),
    }
}
