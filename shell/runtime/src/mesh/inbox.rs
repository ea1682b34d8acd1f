//! What one peer's tasks have for the reader of the mesh: a queue with a bound in bytes.
//!
//! When it is full the connection is not read, and its flow control stops the peer.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Carrier, LinkError, Reason};

/// Bytes of frames that wait for the reader, and with them one frame of any length.
const LEN_MAX: u32 = 4 << 20;
/// Blocks that wait: what small ones need besides their bytes.
const BLOCKS_MAX: usize = 64;

/// Something that happened with one peer.
#[derive(Debug)]
pub(super) enum Told {
    Up(Carrier),
    Down(LinkError),
    Frames(Batch),
}

/// Frames of one block; they count as waiting until the last has been taken.
pub(super) struct Batch {
    frames: std::vec::IntoIter<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Iterator for Batch {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.frames.next()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({})", self.frames.len())
    }
}

/// The way into the queue. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    told: mpsc::Sender<Told>,
    room: Arc<Semaphore>,
}

/// An empty queue, and the way out of it.
pub(super) fn new() -> (Inbox, mpsc::Receiver<Told>) {
    let (told, taken) = mpsc::channel(BLOCKS_MAX);
    let room = usize::try_from(LEN_MAX).unwrap_or(Semaphore::MAX_PERMITS);
    (Inbox { told, room: Arc::new(Semaphore::new(room)) }, taken)
}

impl Inbox {
    /// Waits for room, and gives frames.
    pub(super) async fn give(&self, frames: Vec<Bytes>) -> Result<(), LinkError> {
        if frames.is_empty() {
            return Ok(());
        }
        let stopped = || LinkError::here(Reason::Stopping, "");
        let len: usize = frames.iter().map(Bytes::len).sum();
        let len = u32::try_from(len).unwrap_or(LEN_MAX).min(LEN_MAX);
        let place = Arc::clone(&self.room).acquire_many_owned(len).await;
        let place = place.map_err(|_| stopped())?;
        let batch = Batch { frames: frames.into_iter(), _place: place };
        self.told.send(Told::Frames(batch)).await.map_err(|_| stopped())
    }

    /// Waits for room, and tells something else; whether there is a reader.
    pub(super) async fn tell(&self, told: Told) -> bool {
        self.told.send(told).await.is_ok()
    }
}
