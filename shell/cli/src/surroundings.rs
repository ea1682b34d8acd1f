//! What the tool takes from outside: environment, standard input, clock, interruption.
//!
//! Handed in as one value, so that a test has its own and never touches the process's.

use std::fmt;
use std::future::Future;
use std::io::Read;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dwcp_monitor::trace::Context;
use dwcp_runtime::clock::{Clock, SystemClock};

/// Where credentials are when nothing else is said.
pub(crate) const CREDENTIALS_VARIABLE: &str = "DWCP_CREDENTIALS";

/// How long the tool pauses between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Before asking again what could not be answered; doubled each time.
    pub retry: Duration,
    /// Between two looks at a VM that is waited for, or at a console that is followed.
    pub poll: Duration,
}

impl Default for Pace {
    /// A daemon that restarts is back within seconds, so a few doublings of half a second
    /// bridge it. Half a second between looks is what a person takes for "at once", at 2
    /// requests a second.
    fn default() -> Self {
        Self { retry: Duration::from_millis(500), poll: Duration::from_millis(500) }
    }
}

/// What the tool takes from outside.
pub struct Surroundings {
    /// The person's own folder, `$HOME`.
    pub home: Option<PathBuf>,
    /// The value of `DWCP_CREDENTIALS`.
    pub credentials: Option<PathBuf>,
    /// Whether `NO_COLOR` is set to something.
    pub no_color: bool,
    /// Width for `--help`; the terminal's own when absent.
    pub help_width: Option<usize>,
    /// The trace that this command is part of: `TRACEPARENT`, if it can be read.
    pub part_of: Option<Context>,
    /// Standard input.
    pub input: Box<dyn Read + Send>,
    /// Whether a person is at standard input and can be asked.
    pub interactive: bool,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Pauses.
    pub pace: Pace,
    /// Completes at Ctrl-C; awaited only by what runs until then.
    pub interrupt: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Surroundings {
    /// Those of this process, with its standard input.
    #[must_use]
    pub fn of_process(input: Box<dyn Read + Send>, interactive: bool) -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            home: path("HOME").map(PathBuf::from),
            credentials: path(CREDENTIALS_VARIABLE).map(PathBuf::from),
            no_color: path("NO_COLOR").is_some(),
            help_width: None,
            part_of: std::env::var("TRACEPARENT").ok().and_then(|text| text.parse().ok()),
            input,
            interactive,
            clock: Arc::new(SystemClock::new()),
            pace: Pace::default(),
            interrupt: Box::pin(async {
                if tokio::signal::ctrl_c().await.is_err() {
                    // Without a handler the signal ends the process by itself.
                    std::future::pending::<()>().await;
                }
            }),
        }
    }
}

impl Surroundings {
    /// Ctrl-C, for whoever runs until then; it comes once.
    pub(crate) fn take_interrupt(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        std::mem::replace(&mut self.interrupt, Box::pin(std::future::pending()))
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("home", &self.home)
            .field("credentials", &self.credentials)
            .field("interactive", &self.interactive)
            .finish_non_exhaustive()
    }
}
