//! A connection that TLS has let through, whatever it runs on: blocks in, blocks out, and an end
//! that says why.

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use quinn::VarInt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::block::{Block, Stage, decode, encode_close};
use super::{Carrier, LinkError, Reason};
use crate::tls::Peer;

/// What is read at once: a batch of frames as the other end packs it.
const READ_LEN: usize = 64 << 10;
/// How long an end that closes waits for its last words to leave.
pub(super) const FAREWELL_TIME_MAX: Duration = Duration::from_millis(500);
/// What a refused end may still send before its connection is closed.
const FAREWELL_LEN_MAX: u64 = 64 << 10;

type Source = Box<dyn AsyncRead + Send + Sync + Unpin>;
type Sink = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// What a connection runs on.
#[derive(Clone, Debug)]
pub(super) enum Line {
    /// QUIC, with the idle time after which it gives up.
    Quic(quinn::Connection, Duration),
    Tcp,
}

impl Line {
    pub(super) const fn carrier(&self) -> Carrier {
        match self {
            Self::Quic(..) => Carrier::Quic,
            Self::Tcp => Carrier::Tcp,
        }
    }

    /// Ends a QUIC connection at once; on TCP the last block does that.
    pub(super) fn close(&self, reason: Reason, detail: &str) {
        if let Self::Quic(connection, _) = self {
            let code = VarInt::from_u32(reason.code().into());
            connection.close(code, detail.as_bytes());
        }
    }

    fn explain(&self, error: &std::io::Error) -> LinkError {
        match self {
            // The stream only knows that it ended; the connection knows why.
            Self::Quic(connection, idle) => match connection.close_reason() {
                Some(reason) => LinkError::of_quic(&reason, *idle),
                None => LinkError::broken(error),
            },
            Self::Tcp => LinkError::of_io(error),
        }
    }
}

/// A connection with a peer that has a good certificate.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) reader: BlockReader,
    pub(super) writer: BlockWriter,
    pub(super) line: Line,
    /// What its certificate says.
    pub(super) peer: Peer,
}

impl Link {
    pub(super) fn new(
        source: impl AsyncRead + Send + Sync + Unpin + 'static,
        sink: impl AsyncWrite + Send + Sync + Unpin + 'static,
        line: Line,
        peer: Peer,
    ) -> Self {
        let reader = BlockReader {
            source: Box::new(source),
            buffer: BytesMut::new(),
            line: line.clone(),
            idle: None,
            read: 0,
        };
        let writer =
            BlockWriter { sink: Box::new(sink), line: line.clone(), out: Vec::new() };
        Self { reader, writer, line, peer }
    }

    /// Closes it and lets the reason arrive.
    pub(super) async fn close(mut self, reason: Reason, detail: &str) {
        match &self.line {
            Line::Quic(..) => self.line.close(reason, detail),
            Line::Tcp => {
                let leave = async {
                    encode_close(reason, detail, &mut self.writer.out);
                    if self.writer.finish().await.is_ok() {
                        self.reader.drain().await;
                    }
                };
                timeout(FAREWELL_TIME_MAX, leave).await.ok();
            }
        }
    }
}

/// Reads blocks.
pub(super) struct BlockReader {
    source: Source,
    buffer: BytesMut,
    line: Line,
    /// How long nothing may come.
    pub(super) idle: Option<Duration>,
    /// Bytes that were read so far.
    pub(super) read: u64,
}

impl BlockReader {
    /// The next block. Can be cancelled without loss.
    pub(super) async fn next(&mut self, stage: Stage) -> Result<Block, LinkError> {
        loop {
            if let Some(block) = decode(&mut self.buffer, stage)? {
                return Ok(block);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), LinkError> {
        if self.buffer.capacity() - self.buffer.len() < READ_LEN / 4 {
            self.buffer.reserve(READ_LEN);
        }
        let read = self.source.read_buf(&mut self.buffer);
        let read = match self.idle {
            // Only while waiting: a reader whose frames are not taken does not listen.
            Some(idle) => timeout(idle, read)
                .await
                .map_err(|_| LinkError::Silent { after: idle })?,
            None => read.await,
        };
        match read {
            Ok(0) => Err(LinkError::broken(&"it was cut without a word")),
            Ok(len) => {
                self.read += u64::try_from(len).unwrap_or(0);
                Ok(())
            }
            Err(error) => Err(self.line.explain(&error)),
        }
    }

    /// Reads on until the other end has closed too. Closing with its words unread would reset
    /// the connection, and the reset could overtake the reason.
    async fn drain(self) {
        let mut rest = self.source.take(FAREWELL_LEN_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.ok();
    }
}

impl fmt::Debug for BlockReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockReader").field("line", &self.line).finish_non_exhaustive()
    }
}

/// Writes blocks.
pub(super) struct BlockWriter {
    sink: Sink,
    line: Line,
    /// What is to be sent.
    pub(super) out: Vec<u8>,
}

impl BlockWriter {
    /// Sends `out` and empties it.
    pub(super) async fn flush(&mut self) -> Result<(), LinkError> {
        let sent = async {
            self.sink.write_all(&self.out).await?;
            self.sink.flush().await
        };
        let sent = sent.await;
        self.out.clear();
        sent.map_err(|error| self.line.explain(&error))
    }

    /// Sends `out` as the last.
    pub(super) async fn finish(&mut self) -> Result<(), LinkError> {
        self.flush().await?;
        self.sink.shutdown().await.map_err(|error| self.line.explain(&error))
    }
}

impl fmt::Debug for BlockWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockWriter").field("line", &self.line).finish_non_exhaustive()
    }
}
