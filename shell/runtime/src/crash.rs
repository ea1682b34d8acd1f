//! Places at which a test ends this process the way `kill -9` does.
//!
//! A crash between two given steps cannot be hit from outside: the gap is microseconds wide. So
//! the steps of a placement name themselves, and a process that was started with
//! `DWCP_CRASH_AT=NAME` kills itself when it comes to that one. Nothing is flushed and no
//! destructor runs. Without the variable a point costs one load and one comparison.
//!
//! A cargo feature was rejected: the binary that is killed in the tests would not be the one
//! that is shipped. Whoever can set a daemon's environment can end it anyway.

use std::sync::OnceLock;

use rustix::process::{Signal, getpid, kill_process};

/// Names the point at which to end; for tests only.
pub const CRASH_AT: &str = "DWCP_CRASH_AT";

/// Read once, so that a process cannot be armed after it started.
static ARMED: OnceLock<Option<String>> = OnceLock::new();

/// Ends the process here if it was started to end here.
pub fn crash_point(name: &str) {
    let armed = ARMED.get_or_init(|| std::env::var(CRASH_AT).ok());
    if armed.as_deref() == Some(name) {
        die();
    }
}

/// SIGKILL to oneself. Should the system refuse even that, abort comes next to it.
fn die() -> ! {
    kill_process(getpid(), Signal::KILL).ok();
    std::process::abort();
}
