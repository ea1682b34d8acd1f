//! An overview that keeps itself new: the whole first, then what changes, across broken streams.
//!
//! Whoever watches wants to see a federation come back, so only the first failure is for the
//! caller to end on. After each other one it connects again, with a pause that grows, to whichever
//! daemon answers; the one that it comes back to is told what is had.

use std::time::Duration;

use dwcp_api::overview::{Overview, WHOLE, WatchOverview};
use dwcp_api::patch::apply;
use dwcp_api::sse::Event;
use dwcp_api::{CallError, Events, NoParams};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::{Failure, Kind};
use crate::session::Session;

/// Longest pause before it is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Follows one federation.
#[derive(Debug)]
pub(crate) struct Follower {
    session: Session,
    events: Option<Events>,
    value: Value,
    version: Option<String>,
    /// Failures in a row.
    failures: u32,
}

/// What came, and what is so since.
#[derive(Clone, Debug)]
pub(crate) struct News {
    /// Whether it was the whole.
    pub(crate) whole: bool,
    /// What came: the whole, or a merge patch.
    pub(crate) data: Value,
    /// The whole as it is now.
    pub(crate) overview: Overview,
}

impl Follower {
    /// Connects at the first [`Self::next`].
    pub(crate) const fn new(session: Session) -> Self {
        let (events, version, failures) = (None, None, 0);
        Self { session, events, value: Value::Null, version, failures }
    }

    /// What comes next. May be asked again after a failure.
    ///
    /// # Errors
    ///
    /// Why nothing came.
    pub(crate) async fn next(&mut self) -> Result<News, Failure> {
        let event = self.event().await;
        let news = event.and_then(|event| self.take(&event));
        match &news {
            Ok(_) => self.failures = 0,
            Err(_) => {
                self.events = None;
                self.failures = self.failures.saturating_add(1);
            }
        }
        news
    }

    async fn event(&mut self) -> Result<Event, Failure> {
        let told = |error: CallError| Failure::of_call(error, false);
        if self.events.is_none() {
            if let Some(doublings) = self.failures.checked_sub(1) {
                let pause = self.session.pace.retry;
                let pause = pause.saturating_mul(1 << doublings.min(16)).min(PAUSE_MAX);
                self.session.pause(pause).await;
            }
            let last = self.version.as_deref();
            let opened = self.session.watch::<WatchOverview>(&NoParams {}, last).await;
            self.events = Some(opened.map_err(told)?);
        }
        let ended = || {
            Failure::new(Kind::Unreachable, "the daemon ended the stream of changes")
                .with_remedy("it is opened again")
        };
        let Some(events) = &mut self.events else { return Err(ended()) };
        events.next().await.map_err(told)?.ok_or_else(ended)
    }

    fn take(&mut self, event: &Event) -> Result<News, Failure> {
        let strange = |error: serde_json::Error| {
            // The next stream begins with the whole.
            Failure::new(Kind::Failed, format!("an event is no overview: {error}"))
                .with_remedy("use a dwcp-cli of the daemon's version")
        };
        let whole = event.kind == WHOLE;
        let read: Result<Value, _> = serde_json::from_str(&event.data);
        let taken = read.and_then(|data| {
            if whole {
                self.value = data.clone();
            } else {
                apply(&mut self.value, &data);
            }
            let overview = Overview::deserialize(&self.value)?;
            Ok(News { whole, data, overview })
        });
        self.version = taken.is_ok().then(|| event.id.clone());
        taken.map_err(strange)
    }
}
