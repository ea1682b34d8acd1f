//! A connection that counts: one task reads, one writes, each delayed only by its own end.
//!
//! Whether the peer lives: QUIC knows by itself. On TCP both ends ping, and the reader gives up
//! when nothing came for too long. It counts only the time in which it listens: an end whose
//! frames are not taken stops reading, goes on pinging, and so keeps its connection.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};

use super::assembly::Assembly;
use super::block::{
    Block, PIECE_LEN_MAX, Stage, encode_close, encode_large, encode_ping, encode_pong,
    join, split,
};
use super::greet::Greeted;
use super::inbox::Inbox;
use super::link::{BlockReader, BlockWriter, FAREWELL_TIME_MAX, Line};
use super::outbox::Work;
use super::pack::{Packer, Unpacker};
use super::pair::Pair;
use super::{Carrier, End, LinkError, MeshError, Reason};

/// The two tasks.
#[derive(Debug)]
pub(super) struct Session {
    tasks: JoinSet<(Task, LinkError)>,
    /// What the reader is made of, until it is started.
    unread: Option<(BlockReader, Unpacker)>,
    line: Line,
    pair: Arc<Pair>,
    /// On TCP a write fails by a reset, and what the other end said before may still be read,
    /// until this moment.
    unwritten: Option<(LinkError, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Reader,
    Writer,
}

impl Session {
    /// Starts the writer.
    pub(super) fn start(greeted: Greeted, pair: &Arc<Pair>) -> Result<Self, MeshError> {
        let unusable = |error: std::io::Error| MeshError::Machine {
            reason: format!("zstd says {error}"),
        };
        let packer = Packer::new(&pair.dictionary(&greeted.hello)).map_err(unusable)?;
        let unpacker = Unpacker::new(&pair.own.dictionary).map_err(unusable)?;
        let mut link = greeted.link;
        let line = link.line.clone();
        let pings = line.carrier() == Carrier::Tcp;
        link.reader.idle = pings.then_some(pair.own.limits.idle_time_max);
        let mut tasks = JoinSet::new();
        let pair = Arc::clone(pair);
        let writer = Writer { blocks: link.writer, packer, pair: Arc::clone(&pair) };
        tasks.spawn(async move { (Task::Writer, writer.run(pings).await) });
        let unread = Some((link.reader, unpacker));
        Ok(Self { tasks, unread, line, pair, unwritten: None })
    }

    /// Starts the reader, once the mesh's own reader knows of the connection.
    pub(super) fn listen(&mut self, inbox: Inbox) {
        if let Some((blocks, unpacker)) = self.unread.take() {
            let pair = Arc::clone(&self.pair);
            let assembly = Assembly::default();
            let reader = Reader { blocks, unpacker, assembly, pair, inbox };
            self.tasks.spawn(async move { (Task::Reader, reader.run().await) });
        }
    }

    /// Completes when the connection ends, with the reason. Can be cancelled without loss.
    pub(super) async fn ended(&mut self) -> LinkError {
        if self.unwritten.is_none() {
            let (task, error) = self.one_ended().await;
            if task == Task::Reader || self.line.carrier() == Carrier::Quic {
                return error;
            }
            self.unwritten = Some((error, Instant::now() + FAREWELL_TIME_MAX));
        }
        let Some((error, until)) = self.unwritten.clone() else { return gone() };
        match timeout_at(until, self.one_ended()).await {
            Ok((_, said @ LinkError::Closed { .. })) => said,
            _ => error,
        }
    }

    /// Ends the connection, and lets the other end know why.
    pub(super) async fn close(mut self, error: &LinkError) {
        if let LinkError::Closed { by: End::Here, reason, detail } = error {
            self.line.close(*reason, detail);
            self.pair.outbox.farewell(*reason, detail);
            let left = async {
                while !self.tasks.is_empty() {
                    self.one_ended().await;
                }
            };
            timeout(FAREWELL_TIME_MAX, left).await.ok();
        }
        self.tasks.shutdown().await;
    }

    pub(super) const fn line(&self) -> &Line {
        &self.line
    }

    async fn one_ended(&mut self) -> (Task, LinkError) {
        match self.tasks.join_next().await {
            Some(Ok(ended)) => ended,
            // A task that panicked has said so on standard error.
            Some(Err(error)) => (Task::Reader, LinkError::broken(&error)),
            None => (Task::Reader, gone()),
        }
    }
}

fn gone() -> LinkError {
    LinkError::broken(&"its tasks are gone")
}

struct Reader {
    blocks: BlockReader,
    unpacker: Unpacker,
    assembly: Assembly,
    pair: Arc<Pair>,
    inbox: Inbox,
}

impl Reader {
    async fn run(mut self) -> LinkError {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    async fn step(&mut self) -> Result<(), LinkError> {
        let before = self.blocks.read;
        let block = self.blocks.next(Stage::Frames).await?;
        let received = &self.pair.gauges.received;
        received.wire(self.blocks.read - before);
        match block {
            Block::Frames { packing, raw_len, body } => {
                let pieces = split(self.unpacker.unpack(packing, raw_len, body)?)?;
                let frames = self.assembly.take(pieces)?;
                received.frames(frames.len(), len_of(&frames));
                self.inbox.give(frames).await
            }
            Block::Large(len) => Ok(self.assembly.announce(len)?),
            Block::Ping(number) => {
                self.pair.outbox.pong(number);
                Ok(())
            }
            Block::Pong(number) => {
                self.pair.gauges.pong(number);
                Ok(())
            }
            Block::Close { reason, detail } => Err(LinkError::there(reason, detail)),
            // Not at this stage; the decoder has refused them.
            Block::Hello(_) | Block::Confirm(_) => {
                Err(LinkError::here(Reason::Malformed, "a greeting after the greeting"))
            }
        }
    }
}

struct Writer {
    blocks: BlockWriter,
    packer: Packer,
    pair: Arc<Pair>,
}

impl Writer {
    async fn run(mut self, pings: bool) -> LinkError {
        let every = self.pair.own.limits.ping_every;
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut raw = Vec::new();
        loop {
            let work = tokio::select! {
                work = self.pair.outbox.next() => Some(work),
                _ = ticks.tick(), if pings => None,
            };
            let written = match work {
                Some(Work { farewell: Some((reason, detail)), .. }) => {
                    encode_close(reason, &detail, &mut self.blocks.out);
                    let finished = self.blocks.finish().await;
                    return finished
                        .err()
                        .unwrap_or_else(|| LinkError::here(reason, detail));
                }
                Some(work) => self.write(&work, &mut raw).await,
                None => {
                    encode_ping(self.pair.gauges.ping(), &mut self.blocks.out);
                    self.flush().await
                }
            };
            if let Err(error) = written {
                return error;
            }
        }
    }

    async fn write(&mut self, work: &Work, raw: &mut Vec<u8>) -> Result<(), LinkError> {
        if let Some(number) = work.pong {
            encode_pong(number, &mut self.blocks.out);
        }
        match work.frames.as_slice() {
            [] => {}
            [large] if large.len() > PIECE_LEN_MAX => {
                encode_large(large.len(), &mut self.blocks.out);
                for piece in large.chunks(PIECE_LEN_MAX) {
                    raw.clear();
                    join(piece, raw);
                    self.packer.pack(raw, &mut self.blocks.out);
                    self.flush().await?;
                }
            }
            frames => {
                raw.clear();
                frames.iter().for_each(|frame| join(frame, raw));
                self.packer.pack(raw, &mut self.blocks.out);
            }
        }
        self.flush().await?;
        self.pair.gauges.sent.frames(work.frames.len(), len_of(&work.frames));
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        let len = self.blocks.out.len();
        self.blocks.flush().await?;
        self.pair.gauges.sent.wire(u64::try_from(len).unwrap_or(0));
        Ok(())
    }
}

fn len_of(frames: &[Bytes]) -> usize {
    frames.iter().map(Bytes::len).sum()
}
