//! dwcpd, the region daemon.
fn main() {}
