//! Replicas in a small network: each file a promise.

mod eventual;
mod members;
mod net;
mod operations;
mod quorum;
