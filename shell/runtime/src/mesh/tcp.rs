//! Connections over TCP with TLS: the same blocks where UDP does not get through.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::CommonState;
use rustls_pki_types::ServerName;
use tokio::io::split;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::link::{FAREWELL_TIME_MAX, Line, Link};
use super::{ALPN, LinkError, Reason};
use crate::tls::{ClientTls, Peer, ServerTls, farewell};

/// Certificates decide who answers; this only fills the place of a name.
const SERVER_NAME: &str = "mesh.dwcp";

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
    let peer = peer(session)?;
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
            farewell(stream, FAREWELL_TIME_MAX).await;
            return Err(LinkError::of_io(&error));
        }
    };
    let session = stream.get_ref().1;
    let peer = peer(session)?;
    let (source, sink) = split(stream);
    Ok(Link::new(source, sink, Line::Tcp, peer))
}

/// Who is at the other end, which has agreed on the protocol.
fn peer(session: &CommonState) -> Result<Peer, LinkError> {
    if session.alpn_protocol() != Some(ALPN) {
        return Err(LinkError::here(
            Reason::OtherProtocol,
            "no protocol was agreed upon",
        ));
    }
    let first = session.peer_certificates().and_then(<[_]>::first);
    let peer = first.and_then(|first| Peer::from_der(first).ok());
    peer.ok_or_else(|| LinkError::here(Reason::BadCertificate, "it names nobody"))
}
