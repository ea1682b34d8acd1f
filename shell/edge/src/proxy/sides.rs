//! The two sides of a connection that is passed on: their bytes counted, and broken off so that
//! the other end knows.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsStream;

use super::counters::Bytes;

/// A time of silence is looked at in so many parts: it ends by a quarter of it too late at most.
const PARTS: u32 = 4;

/// One side.
#[derive(Debug)]
pub(super) enum Side {
    /// A client or a server.
    Plain(TcpStream),
    /// Another region's proxy.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Side {
    /// Breaks it off when it is dropped: the other end sees a reset and never an end in order,
    /// which it would take for all that there is.
    pub(super) fn break_off(&self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // One that is gone needs no breaking off.
        socket.set_zero_linger().unwrap_or_default();
    }
}

/// A side whose bytes are counted.
#[derive(Debug)]
pub(super) struct Counted<'m, S> {
    pub(super) side: S,
    /// Bytes that came from it.
    pub(super) came: u64,
    /// Changes with every byte that comes or goes, of both sides.
    stirred: &'m AtomicU64,
    /// Counts too what came from it.
    counted: Option<Arc<Bytes>>,
}

impl<'m, S> Counted<'m, S> {
    pub(super) const fn new(side: S, stirred: &'m AtomicU64) -> Self {
        Self { side, came: 0, stirred, counted: None }
    }

    pub(super) fn counting(mut self, counted: Option<Arc<Bytes>>) -> Self {
        self.counted = counted;
        self
    }

    fn stir(&self) {
        self.stirred.fetch_add(1, Ordering::Relaxed);
    }
}

/// Completes when nothing was stirred for so long.
pub(super) async fn silence(stirred: &AtomicU64, most: Duration) {
    let (mut seen, mut quiet) = (stirred.load(Ordering::Relaxed), 0);
    while quiet < PARTS {
        sleep(most / PARTS).await;
        let now = stirred.load(Ordering::Relaxed);
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut own.side).poll_read(context, buffer))?;
        let count = buffer.filled().len().saturating_sub(before);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        own.came = own.came.saturating_add(count);
        if let Some(counted) = &own.counted {
            counted.add(count);
        }
        own.stir();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let own = self.get_mut();
        let written = ready!(Pin::new(&mut own.side).poll_write(context, bytes))?;
        own.stir();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().side).poll_flush(context)
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().side).poll_shutdown(context)
    }
}

impl AsyncRead for Side {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Side {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
