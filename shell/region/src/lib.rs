//! The region daemon `dwcpd`: feeds the cores, carries out what they decide.
//!
//! One file a part; `app` puts them together. What each owns and in which order it acts stands
//! at the top of its file.

mod app;
mod bind;
mod books;
mod capacity;
mod commit;
pub mod config;
mod events;
mod fleet;
mod host_link;
mod inventory;
mod lifecycle;
mod local;
mod local_guests;
mod meter;
mod mirror;
mod peer_api;
mod peer_link;
mod place;
mod preempt;
mod public_api;
mod reconcile;
mod records;
mod region_records;
mod removal;
mod reservations;
mod selector;
mod status;
mod world;

pub use app::{App, Options};
