//! When to stop: SIGTERM from a supervisor, SIGINT from a terminal.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Takes over SIGTERM and SIGINT. The future completes with the signal's name at the first of
/// them; until it is made, both still kill the process.
///
/// # Errors
///
/// When the system does not let the process handle signals.
pub fn requested() -> io::Result<impl Future<Output = &'static str> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};

    #[tokio::test]
    async fn sigterm_is_a_request_and_not_the_end() {
        let requested = requested().unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        assert_eq!(requested.await, "SIGTERM");
    }
}
