//! Tests of the mesh: what is on the wire, and real connections over loopback.
//!
//! What must hold whatever a connection runs on is in `conformance` and `attack`, as functions
//! over a [`Transport`](super::Transport) of which `on_both!` makes one test each.

mod attack;
mod auto;
mod conformance;
mod refusals;
mod relay;
mod wire;
mod world;

/// Makes two tests of each function: over QUIC and over TCP.
macro_rules! on_both {
    ($($property:ident)*) => {
        mod quic {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                super::$property($crate::mesh::Transport::Quic).await;
            })*
        }
        mod tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                super::$property($crate::mesh::Transport::Tcp).await;
            })*
        }
    };
}
use on_both;
