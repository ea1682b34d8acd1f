//! Checks that no lint can make.
fn main() {}
