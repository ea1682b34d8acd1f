//! The local federation.
mod process;
mod supervisor;
