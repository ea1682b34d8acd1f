//! The region daemon `dwcpd`: feeds the cores, carries out what they decide.
//!
//! One file a part; `app` puts them together. What each owns and in which order it acts stands
//! at the top of its file.

mod app;
mod bind;
pub mod books;
pub mod capacity;
pub mod chronicle;
pub mod claims;
pub mod commit;
pub mod config;
mod controller;
pub mod engine;
pub mod evacuate;
pub mod events;
mod fan;
pub mod fleet;
pub mod host_link;
mod incidents;
pub mod inventory;
pub mod lifecycle;
pub mod local;
pub mod local_guests;
pub mod meter;
mod metrics;
pub mod migrate;
pub mod mirror;
mod overview;
pub mod peer_api;
pub mod peer_link;
pub mod place;
pub mod preempt;
pub mod public_api;
pub mod reconcile;
pub mod records;
pub mod region_records;
pub mod removal;
pub mod replicate;
pub mod rescue;
pub mod reservations;
pub mod routing;
mod scrape;
pub mod selector;
mod state;
pub mod status;
pub mod tokens;
mod traces;
mod trail;
pub mod trials;
mod trips;
pub mod voters;
pub mod warden;
mod wardship;
pub mod world;

pub use app::{App, Options};
