//! Where a mesh listens: one port number, by UDP, TCP or both, as its peers may need.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use tokio::net::TcpListener;

use super::drivers::Drivers;
use super::quic::QuicPort;
use super::{Carrier, MeshConfig, MeshError};
use crate::http::BindError;
use crate::tls::ServerTls;

/// A port that is free for TCP may be taken for UDP; then another one is tried, so often.
const TRIES_MAX: usize = 16;

/// The sockets.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) quic: Option<QuicPort>,
    /// What `quic` runs on; outlives its last use.
    pub(super) drivers: Option<Drivers>,
    pub(super) tcp: Option<TcpListener>,
    pub(super) address: SocketAddr,
}

impl Ports {
    pub(super) async fn bind(
        config: &MeshConfig,
        server: &ServerTls,
    ) -> Result<Self, MeshError> {
        let wants =
            |carrier| config.peers.iter().any(|peer| peer.transport.allows(carrier));
        let (quic, tcp) = (wants(Carrier::Quic), wants(Carrier::Tcp));
        let mut tries = 0;
        let (udp, tcp, address) = loop {
            tries += 1;
            match sockets(config.listen, quic, tcp).await {
                Ok(sockets) => break sockets,
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && config.listen.port() == 0
                        && tries < TRIES_MAX => {}
                Err(error) => return Err(refused(config.listen, error).into()),
            }
        };
        let port = |socket| QuicPort::new(socket, server.clone(), config.limits);
        let quic = udp.map(port).transpose();
        let quic = quic.map_err(|error| refused(config.listen, error))?;
        let (quic, drivers) = quic.unzip();
        Ok(Self { quic, drivers, tcp, address })
    }
}

async fn sockets(
    listen: SocketAddr,
    quic: bool,
    tcp: bool,
) -> io::Result<(Option<UdpSocket>, Option<TcpListener>, SocketAddr)> {
    let tcp = if tcp { Some(TcpListener::bind(listen).await?) } else { None };
    let mut address = match &tcp {
        Some(listener) => listener.local_addr()?,
        None => listen,
    };
    let udp = if quic { Some(UdpSocket::bind(address)?) } else { None };
    if let Some(socket) = &udp {
        address = socket.local_addr()?;
    }
    Ok((udp, tcp, address))
}

fn refused(address: SocketAddr, source: io::Error) -> BindError {
    if source.kind() == io::ErrorKind::AddrInUse {
        BindError::InUse { address }
    } else {
        BindError::Refused { address, source }
    }
}
