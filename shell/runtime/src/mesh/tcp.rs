//! Connections over TCP with TLS: the same blocks where UDP does not get through.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::link::{FAREWELL_TIME_MAX, Line, Link};
use super::{ALPN, LinkError, Reason};
use crate::tls::{ClientTls, Peer, ServerTls};

/// Certificates decide who answers; this only fills the place of a name.
const SERVER_NAME: &str = "mesh.dwcp";
/// What a refused end may still send before its connection is closed.
const FAREWELL_LEN_MAX: u64 = 64 << 10;

/// Makes a connection, as far as TLS.
pub(super) async fn dial(
    tls: &ClientTls,
    address: SocketAddr,
) -> Result<Link, LinkError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| LinkError::Unreachable { reason: error.to_string() })?;
    // Blocks are batches already.
    stream.set_nodelay(true).ok();
    let mut config = (*tls.current().0).clone();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let name =
        ServerName::try_from(SERVER_NAME).map_err(|error| LinkError::broken(&error))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| LinkError::of_io(&error))?;
    // A server that does not know the protocol says nothing about it.
    let session = stream.get_ref().1;
    if session.alpn_protocol() != Some(ALPN) {
        return Err(LinkError::here(
            Reason::OtherProtocol,
            "no protocol was agreed upon",
        ));
    }
    let peer = peer(session.peer_certificates())?;
    let (source, sink) = split(stream);
    Ok(Link::new(source, sink, Line::Tcp, peer))
}

/// Takes a connection, as far as TLS.
pub(super) async fn accept(
    tls: &ServerTls,
    stream: TcpStream,
) -> Result<Link, LinkError> {
    stream.set_nodelay(true).ok();
    let mut config = (*tls.current()).clone();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((error, stream)) => {
            farewell(stream).await;
            return Err(LinkError::of_io(&error));
        }
    };
    let session = stream.get_ref().1;
    if session.alpn_protocol() != Some(ALPN) {
        return Err(LinkError::here(
            Reason::OtherProtocol,
            "no protocol was agreed upon",
        ));
    }
    let peer = peer(session.peer_certificates())?;
    let (source, sink) = split(stream);
    Ok(Link::new(source, sink, Line::Tcp, peer))
}

fn peer(chain: Option<&[CertificateDer<'_>]>) -> Result<Peer, LinkError> {
    let first = chain.and_then(<[_]>::first);
    let peer = first.and_then(|first| Peer::from_der(first).ok());
    peer.ok_or_else(|| LinkError::here(Reason::BadCertificate, "it names nobody"))
}

/// Lets the alert arrive: closing with bytes unread would reset the connection, and the reset
/// could overtake the alert that says why.
async fn farewell(mut stream: TcpStream) {
    let leave = async {
        stream.shutdown().await.ok();
        let mut rest = stream.take(FAREWELL_LEN_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.ok();
    };
    timeout(FAREWELL_TIME_MAX, leave).await.ok();
}
