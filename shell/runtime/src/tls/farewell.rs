//! How a server parts from a client that it refused.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a refused client may still send before its connection is closed.
const LEN_MAX: u64 = 64 << 10;

/// Lets the alert arrive. In TLS 1.3 a client learns only after its own part of the handshake
/// that it was refused; closing with its first request unread would reset the connection, and
/// the reset could overtake the alert that says why.
pub(crate) async fn farewell(mut stream: TcpStream, time_max: Duration) {
    let leave = async {
        stream.shutdown().await.ok();
        let mut rest = stream.take(LEN_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.ok();
    };
    timeout(time_max, leave).await.ok();
}
