//! The members as one: asks the nearest that works, and goes on to the next when one fails.
//!
//! A member that failed rests while others are asked, the longer the more time it took: one
//! that is frozen must not cost every call its whole patience. What was certainly not done is
//! asked again until [`NOT_DONE_TIME_MAX`]; what may have been done is asked again only when
//! the caller says that this is harmless.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::grpc::{Failure, Messages, Method};
use super::member::{ClusterId, Member, MemberAddress};

/// How long one member may take: a round trip to the farthest leader (322 ms), its round to a
/// majority, and a lost packet.
const TRY_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a call is tried while it is certain that nothing was done: the longest election
/// (six heartbeats of 343 ms and as much again, twice when votes are split), and a round.
const NOT_DONE_TIME_MAX: Duration = Duration::from_secs(8);
/// How long a call is tried in all. Above it lies the time of a client's call (30 s).
const TIME_MAX: Duration = Duration::from_secs(12);
/// How long a member that failed at once is not asked while others are there.
const REST: Duration = Duration::from_secs(1);
/// How much longer it rests for the time that it took.
const REST_FACTOR: u32 = 10;
/// Longest rest.
const REST_MAX: Duration = Duration::from_secs(30);
/// Pause before the second try; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(20);
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// Whether a call that may have been done may be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Asking twice is as good as asking once.
    Harmless,
    /// Only what was certainly not done is asked again.
    OnlyIfNotDone,
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Answer<T> {
    /// What was answered last.
    pub(super) result: Result<T, Failure>,
    /// Whether an earlier try may still be on its way.
    pub(super) lost: bool,
}

/// The members, the preferred first.
#[derive(Debug)]
pub(super) struct Members {
    members: Vec<Arc<Member>>,
    resting: Mutex<Vec<Rest>>,
}

/// Why and until when a member is not asked while others are there.
#[derive(Clone, Debug)]
struct Rest {
    until: Instant,
    /// What was wrong the last time; nothing since it worked.
    reason: Option<String>,
}

impl Members {
    pub(super) fn new(addresses: Vec<MemberAddress>) -> Self {
        let cluster = ClusterId::default();
        let member = |address| Arc::new(Member::new(address, cluster.clone()));
        let members: Vec<_> = addresses.into_iter().map(member).collect();
        let rested = Rest { until: Instant::now(), reason: None };
        let resting = Mutex::new(vec![rested; members.len()]);
        Self { members, resting }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.iter()
    }

    /// Asks until there is an answer or the time is up.
    pub(super) async fn call<M: Method>(
        &self,
        message: &M::Request,
        again: Again,
    ) -> Answer<M::Response> {
        let mut course = Course::new(again);
        loop {
            let Some((at, member)) = self.next() else { return none() };
            let asked = Instant::now();
            let result = member.call::<M>(message, course.deadline()).await;
            self.note(at, &result);
            let Err(failure) = result else {
                return Answer { result, lost: course.lost };
            };
            if let Some(failure) = course.failed(failure) {
                let failure = self.all_reasons(failure);
                return Answer { result: Err(failure), lost: course.lost };
            }
            self.rest(at, asked);
            course.pause().await;
        }
    }

    /// Opens a stream at the first member that takes it.
    pub(super) async fn open<M: Method>(
        &self,
        message: &M::Request,
    ) -> Result<Messages, Failure> {
        let mut course = Course::new(Again::Harmless);
        loop {
            let Some((at, member)) = self.next() else { return none().result };
            let asked = Instant::now();
            let opened = member.open::<M>(message, course.deadline()).await;
            self.note(at, &opened);
            let Err(failure) = opened else { return opened };
            if let Some(failure) = course.failed(failure) {
                return Err(self.all_reasons(failure));
            }
            self.rest(at, asked);
            course.pause().await;
        }
    }

    /// The nearest member that does not rest. When all rest, the one that is done first.
    fn next(&self) -> Option<(usize, Arc<Member>)> {
        let now = Instant::now();
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let until = resting.iter().map(|rest| rest.until.max(now));
        let (at, _) = until.enumerate().min_by_key(|(_, until)| *until)?;
        self.members.get(at).map(|member| (at, Arc::clone(member)))
    }

    fn rest(&self, at: usize, asked: Instant) {
        let rest = REST.saturating_add(asked.elapsed().saturating_mul(REST_FACTOR));
        let until = Instant::now() + rest.min(REST_MAX);
        self.change(at, |of| of.until = until);
    }

    /// Keeps what is wrong with a member; one that says no has answered, and works.
    fn note<T>(&self, at: usize, result: &Result<T, Failure>) {
        let reason = match result {
            Err(Failure::NotDone(reason) | Failure::Unknown(reason)) => {
                Some(reason.clone())
            }
            Err(Failure::Refused(_)) | Ok(_) => None,
        };
        self.change(at, |of| of.reason = reason);
    }

    fn change(&self, at: usize, change: impl FnOnce(&mut Rest)) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.get_mut(at).map(change).unwrap_or_default();
    }

    /// That one member is down is no reason why nothing was done; that all are is.
    fn all_reasons(&self, failure: Failure) -> Failure {
        let Failure::NotDone(_) = failure else { return failure };
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let reasons: Vec<&str> =
            resting.iter().filter_map(|rest| rest.reason.as_deref()).collect();
        // Another call may just have found that one works.
        if reasons.is_empty() { failure } else { Failure::NotDone(reasons.join("; ")) }
    }
}

fn none<T>() -> Answer<T> {
    let reason = "there is no member to ask".to_owned();
    Answer { result: Err(Failure::NotDone(reason)), lost: false }
}

/// The tries of one call.
struct Course {
    again: Again,
    start: Instant,
    tries: u32,
    lost: bool,
}

impl Course {
    fn new(again: Again) -> Self {
        Self { again, start: Instant::now(), tries: 0, lost: false }
    }

    /// Until when the next try may take. One that cannot be repeated gets all the time.
    fn deadline(&self) -> Instant {
        let end = self.start + TIME_MAX;
        match self.again {
            Again::Harmless => end.min(Instant::now() + TRY_TIME_MAX),
            Again::OnlyIfNotDone => end,
        }
    }

    /// Takes a failure in; gives it back when it is the last word.
    fn failed(&mut self, failure: Failure) -> Option<Failure> {
        self.tries += 1;
        let over = self.start.elapsed();
        match &failure {
            Failure::Refused(_) => return Some(failure),
            Failure::Unknown(_) if self.again == Again::OnlyIfNotDone => {
                self.lost = true;
                return Some(failure);
            }
            Failure::Unknown(_) => self.lost = true,
            Failure::NotDone(_) => {}
        }
        let time_max = if self.lost { TIME_MAX } else { NOT_DONE_TIME_MAX };
        (over >= time_max).then_some(failure)
    }

    async fn pause(&self) {
        let doubled = PAUSE.saturating_mul(1 << self.tries.saturating_sub(1).min(8));
        sleep_until(Instant::now() + doubled.min(PAUSE_MAX)).await;
    }
}
