//! Replicas in a small network: each file a promise.

mod clocks;
mod eventual;
mod fence;
mod frames;
mod lives;
mod logs;
mod members;
mod net;
mod operations;
mod quorum;
mod registers;
mod rights;
#[cfg(feature = "sabotage")]
mod sabotage;
mod sessions;
mod slots;
mod stores;
