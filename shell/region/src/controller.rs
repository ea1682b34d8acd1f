//! What is looked at when placements are slow (O12, O13): how busy this daemon is, how long it
//! decides, and what it keeps ready to decide by. Another region's daemon is asked for its own.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dwcp_api::controller::{
    ControllerParams, ControllerReply, GetController, ProcessLoad,
};
use dwcp_api::{ApiError, Client, ErrorCode, Routes};
use dwcp_runtime::clock::Clock;
use dwcp_types::{RegionId, millis};
use rustix::param::{clock_ticks_per_second, page_size};

use crate::bind::bind;
use crate::fleet::FleetKeeper;
use crate::metrics::Metrics;
use crate::public_api::admit;

/// How often it is looked how busy the daemon is, and looks that are kept: a minute of them.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOKS_MAX: usize = 6;
/// Time for another region's daemon to answer for itself.
const PEER_TIME_MAX: Duration = Duration::from_secs(2);
/// Where user and system time are among the words behind the program's name (proc(5)).
const TIMES_AT: [usize; 2] = [11, 12];
/// Where the pages in memory are among the words of `statm`.
const RESIDENT_AT: usize = 1;

/// Answers for the controller.
#[derive(Debug)]
pub(crate) struct Controller {
    region: RegionId,
    fleet: Arc<FleetKeeper>,
    metrics: Arc<Metrics>,
    peers: BTreeMap<RegionId, Client>,
    clock: Arc<dyn Clock>,
    began: Duration,
    /// When it was looked, and the CPU time until then.
    looks: Mutex<VecDeque<(Duration, Duration)>>,
}

/// The operator's routes.
pub(crate) fn routes(api: &Arc<Controller>) -> Routes {
    bind! { api, admit,
        GetController => show;
    }
}

impl Controller {
    pub(crate) fn new(
        region: RegionId,
        (fleet, metrics): (Arc<FleetKeeper>, Arc<Metrics>),
        peers: BTreeMap<RegionId, Client>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let began = clock.monotonic();
        let looks = Mutex::default();
        Arc::new(Self { region, fleet, metrics, peers, clock, began, looks })
    }

    /// Looks how busy the daemon is, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            if let Some(cpu) = cpu_time() {
                let mut looks = self.looks();
                looks.push_back((self.clock.monotonic(), cpu));
                while looks.len() > LOOKS_MAX {
                    looks.pop_front();
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn show(
        &self,
        asked: ControllerParams,
        (): (),
    ) -> Result<ControllerReply, ApiError> {
        match &asked.region {
            Some(region) if *region != self.region => self.ask(region).await,
            Some(_) | None => Ok(self.own()),
        }
    }

    async fn ask(&self, region: &RegionId) -> Result<ControllerReply, ApiError> {
        let peer = self.peers.get(region).ok_or_else(|| {
            let message = format!("the address of region {region}'s daemon is not known");
            ApiError::new(ErrorCode::NotFound, message)
                .with_remedy("`dwcp-cli federation region list` shows all regions")
        })?;
        let asked = ControllerParams { region: Some(region.clone()) };
        let call = peer.call::<GetController>(&asked, &());
        let unavailable = |why: String| {
            let message = format!("region {region}'s daemon does not answer: {why}");
            ApiError::new(ErrorCode::Unavailable, message).with_remedy(
                "see `dwcp-cli federation status`; try again when it is back",
            )
        };
        match tokio::time::timeout(PEER_TIME_MAX, call).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(unavailable(error.to_string())),
            Err(_) => Err(unavailable(format!("no answer within {PEER_TIME_MAX:?}"))),
        }
    }

    fn own(&self) -> ControllerReply {
        ControllerReply {
            region: self.region.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: self.process(),
            decisions: self.metrics.decided(),
            kept: self.fleet.kept(),
        }
    }

    fn process(&self) -> ProcessLoad {
        let (now, cpu) = (self.clock.monotonic(), cpu_time());
        let first = self.looks().front().copied();
        let (over, busy) = match (first, cpu) {
            (Some((at, before)), Some(cpu)) => {
                (now.saturating_sub(at), Some(cpu.saturating_sub(before)))
            }
            _ => (Duration::ZERO, None),
        };
        let milli = |busy: Duration| {
            let share = (busy.as_micros() * 1_000).checked_div(over.as_micros())?;
            u64::try_from(share).ok()
        };
        ProcessLoad {
            up_ms: millis(now.saturating_sub(self.began)),
            cpu_ms: cpu.map(millis),
            cpu_milli: busy.and_then(milli),
            over_ms: millis(over),
            memory_bytes: memory(),
        }
    }

    fn looks(&self) -> MutexGuard<'_, VecDeque<(Duration, Duration)>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// CPU time of this process until now; nothing where there is no `/proc`.
fn cpu_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    ticks(&text).map(|ticks| {
        Duration::from_millis(
            ticks.saturating_mul(1_000) / clock_ticks_per_second().max(1),
        )
    })
}

/// User and system time; the program's name before may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let of = |at: usize| words.get(at)?.parse::<u64>().ok();
    TIMES_AT.into_iter().map(of).sum()
}

fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(RESIDENT_AT)?.parse().ok()?;
    Some(pages.saturating_mul(u64::try_from(page_size()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat =
            "7 (a) b 1 (c)) S 1 7 7 0 -1 4194304 100 0 0 0 31 11 0 0 20 0 4 0 99 1 1";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) S 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn this_process_has_memory_and_takes_time() {
        assert!(cpu_time().is_some());
        assert!(memory().is_some_and(|bytes| bytes > 0));
    }
}
