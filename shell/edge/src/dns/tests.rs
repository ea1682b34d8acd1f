//! The name server without sockets, against oracles and hostile packets, and with real ones.

mod answers;
mod dig;
mod ground;
mod hostile;
mod scopes;
mod sockets;
