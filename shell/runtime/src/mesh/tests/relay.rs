//! A network between two meshes that can be cut: then nothing passes, and nobody is told.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::Transport;
use super::world::address;

/// The network. Ends when it is dropped.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    cut: watch::Sender<bool>,
    _tasks: JoinSet<io::Result<()>>,
}

impl Relay {
    /// Passes on what comes to its address.
    pub(super) async fn to(target: SocketAddr, transport: Transport) -> Self {
        let address = address();
        let (cut, is_cut) = watch::channel(false);
        let mut tasks = JoinSet::new();
        if transport == Transport::Quic {
            let socket = UdpSocket::bind(address).await.unwrap();
            tasks.spawn(datagrams(Arc::new(socket), target, is_cut));
        } else {
            let listener = TcpListener::bind(address).await.unwrap();
            tasks.spawn(streams(listener, target, is_cut));
        }
        Self { address, cut, _tasks: tasks }
    }

    pub(super) fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub(super) fn heal(&self) {
        self.cut.send_replace(false);
    }
}

async fn datagrams(
    socket: Arc<UdpSocket>,
    target: SocketAddr,
    cut: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut ways: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut replies = JoinSet::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).await?;
        if *cut.borrow() {
            continue;
        }
        let way = match ways.get(&from) {
            Some(way) => Arc::clone(way),
            None => {
                let way = Arc::new(UdpSocket::bind(address()).await?);
                way.connect(target).await?;
                replies.spawn(back(
                    Arc::clone(&way),
                    Arc::clone(&socket),
                    from,
                    cut.clone(),
                ));
                ways.insert(from, Arc::clone(&way));
                way
            }
        };
        way.send(&buffer[..len]).await.ok();
    }
}

async fn back(
    way: Arc<UdpSocket>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    cut: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // A refusal of the target's port is an error here, and no end.
        let Ok(len) = way.recv(&mut buffer).await else { continue };
        if !*cut.borrow() {
            socket.send_to(&buffer[..len], to).await.ok();
        }
    }
}

async fn streams(
    listener: TcpListener,
    target: SocketAddr,
    cut: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut ways = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await?;
        let mut cut = cut.clone();
        ways.spawn(async move {
            cut.wait_for(|cut| !*cut).await.ok();
            let far = TcpStream::connect(target).await?;
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            tokio::join!(
                copy(near_in, far_out, cut.clone()),
                copy(far_in, near_out, cut)
            );
            io::Result::Ok(())
        });
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len) = from.read(&mut buffer).await {
        cut.wait_for(|cut| !*cut).await.ok();
        if len == 0 || to.write_all(&buffer[..len]).await.is_err() {
            break;
        }
    }
    // What ends on one side ends on the other.
    to.shutdown().await.ok();
}
