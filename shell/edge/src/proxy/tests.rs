//! The proxy by bytes on real sockets: what it lets through, what it refuses, what it does again.

mod flows;
mod ground;
mod heads;
mod hostile;
mod preface;
mod retries;
mod sessions;
mod streams;
mod tunnels;
