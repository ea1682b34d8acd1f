//! The parts of the region daemon `dwcpd` that its tests and the workspace's checks share.

pub mod config;
