//! The outside world behind ports: clock, store, strong engine, TLS, HTTP.
//!
//! A port is a trait (or one small type) that says what the rest of the system may rely on; an
//! adapter is one way to provide it. Everything here is bounded, and everything here says in
//! its errors what happened, where, and what to do about it.

pub mod clock;
mod commit;
pub mod crash;
pub mod digest;
pub mod http;
pub mod lock;
pub mod mail;
pub mod mesh;
pub mod outside;
pub mod records;
pub mod report_log;
pub mod seal;
pub mod segments;
pub mod shutdown;
pub mod stamp;
pub mod store;
pub mod strong;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod webhook;
