//! dwcp-agent, the host daemon: owns this host's VMs.
fn main() {}
