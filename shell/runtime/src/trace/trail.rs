//! Which request the newest instruction about a VM comes from.
//!
//! A request is answered when something is written down; what is wanted is done later, by a task
//! that compares what is with what is wanted and knows no request. This remembers, in memory and for
//! minutes only, of which trace the newest wish is. A process that dies loses the tail of a trace
//! and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_monitor::trace::Context;
use dwcp_types::VmId;

use super::{Tracer, Work, context};
use crate::clock::Clock;

/// VMs that are followed at once; beyond that those that come last are not.
const VMS_MAX: usize = 10_000;
/// What is not done in this time is not followed any further.
const FOLLOWED: Duration = Duration::from_mins(10);

/// See the module.
#[derive(Debug)]
pub struct Trail {
    tracer: Tracer,
    clock: Arc<dyn Clock>,
    steps: Mutex<BTreeMap<VmId, (Context, Duration)>>,
}

impl Trail {
    /// One that follows nothing yet.
    #[must_use]
    pub fn new(tracer: Tracer, clock: Arc<dyn Clock>) -> Self {
        Self { tracer, clock, steps: Mutex::default() }
    }

    /// What is wanted of a VM comes from the current request, where there is one; what was followed
    /// before is not any more.
    pub fn note(&self, vm: &VmId) {
        let Some(of) = context() else { return self.end(vm) };
        let now = self.clock.monotonic();
        let mut steps = self.steps();
        if steps.len() >= VMS_MAX {
            steps.retain(|_, (_, since)| now.saturating_sub(*since) < FOLLOWED);
        }
        if steps.len() < VMS_MAX || steps.contains_key(vm) {
            steps.insert(vm.clone(), (of, now));
        }
    }

    /// Of which span the newest wish about a VM is.
    #[must_use]
    pub fn of(&self, vm: &VmId) -> Option<Context> {
        let (of, since) = *self.steps().get(vm)?;
        let now = self.clock.monotonic();
        (now.saturating_sub(since) < FOLLOWED).then_some(of)
    }

    /// Does something about a VM as part of the request that it comes from.
    pub async fn follow<T>(&self, vm: &VmId, work: Work<'_, T>) -> T {
        match self.of(vm) {
            Some(of) => self.tracer.within(of, work).await,
            None => work.await,
        }
    }

    /// What was wanted is done.
    pub fn end(&self, vm: &VmId) {
        self.steps().remove(vm);
    }

    fn steps(&self) -> MutexGuard<'_, BTreeMap<VmId, (Context, Duration)>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use dwcp_monitor::trace::Lane;
    use dwcp_types::{RegionId, Timestamp};

    use super::*;
    use crate::clock::ManualClock;
    use crate::trace::span;

    #[tokio::test]
    async fn what_is_done_later_is_part_of_the_request_for_ten_minutes() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(7)));
        let lane = Lane {
            region: RegionId::new("eu-west-1").unwrap(),
            process: "dwcpd".to_owned(),
        };
        let (tracer, mut spans) = Tracer::new(lane, clock.clone());
        let trail = Trail::new(tracer.clone(), clock.clone());
        let vm = VmId::new("web-1").unwrap();
        trail.note(&vm);
        assert!(trail.of(&vm).is_none(), "there is no request");
        let asked = async {
            trail.note(&vm);
            Ok::<_, std::convert::Infallible>(())
        };
        tracer.enter(None, "place_vm", Box::pin(asked)).await.unwrap();
        let asked = spans.try_recv().unwrap();
        let work = || async {
            span("start", async { Ok::<_, std::convert::Infallible>(()) }).await
        };
        trail.follow(&vm, Box::pin(work())).await.unwrap();
        let done = spans.try_recv().unwrap();
        assert_eq!((done.trace, done.parent), (asked.trace, Some(asked.id)));
        trail.note(&vm);
        assert!(trail.of(&vm).is_none(), "a wish of no request takes its place");
        let again = async {
            trail.note(&vm);
            Ok::<_, std::convert::Infallible>(())
        };
        tracer.enter(None, "place_vm", Box::pin(again)).await.unwrap();
        spans.try_recv().unwrap();
        clock.advance(FOLLOWED);
        trail.follow(&vm, Box::pin(work())).await.unwrap();
        assert!(spans.try_recv().is_err());
        trail.end(&vm);
        assert!(trail.of(&vm).is_none());
    }
}
