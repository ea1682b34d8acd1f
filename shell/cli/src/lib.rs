//! dwcp-cli, the operator's tool: reads a command line, calls the API, prints the answer.
//!
//! A library with a thin `main`, so that tests run whole commands in their own process:
//! everything that the tool takes from outside comes in through [`Surroundings`], and
//! everything that it prints goes out through one [`Terminal`].

mod act;
mod app;
mod arguments;
mod credentials;
mod dashboards;
mod draft;
mod failure;
mod follow;
mod glance;
mod parse;
mod session;
mod surroundings;
mod table;
mod terminal;
mod text;
mod top;
mod traffic;
mod view;

pub use app::{command, run};
pub use surroundings::{Pace, Surroundings};
pub use terminal::Terminal;
