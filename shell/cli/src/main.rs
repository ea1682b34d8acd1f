//! dwcp-cli, the operator's tool.
fn main() {}
