//! HTTP/1.1 and HTTP/2 over mutual TLS, in both directions, with a bound on everything.
//!
//! axum routes, hyper speaks, rustls encrypts. The server puts the verified
//! [`Peer`](crate::tls::Peer) into each request's extensions; there is no other way to learn
//! who asks.

mod client;
mod ended;
mod server;

pub use client::{HttpClient, HttpError, Opened};
pub use server::{BindError, BoundServer, Ending, Limits};
