//! Failovers that wait for a second person, in the strong engine (F17): read, written within
//! their bound, removed when their time is over.
//!
//! Nobody waits for their end: one that expired is refused whoever approves it, and removed by
//! whoever writes the next. Rejected: a lease of the engine that takes them with it. An
//! operator who comes too late would not be told so.

use std::sync::Arc;

use dwcp_controller::failover::{
    REQUESTS_MAX, REQUESTS_PREFIX, REQUESTS_TURN_KEY, Request, request_key,
};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::{Compare, KeyValue, Op, StrongEngine, StrongError};
use tracing::{info, warn};

use crate::commit::stored;
use crate::engine;
use crate::mirror::read_pages;

/// See the module.
#[derive(Debug)]
pub struct Requests {
    /// The engine.
    pub engine: Arc<dyn StrongEngine>,
    /// The clock that they expire by.
    pub clock: Arc<dyn Clock>,
}

/// A request as it was read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// It.
    pub(super) request: Request,
    revision: u64,
}

impl Found {
    /// What holds as long as nobody decided about it.
    pub(super) fn stands(&self) -> Compare {
        let key = request_key(&self.request.id);
        Compare::Revision { key, mod_revision: self.revision }
    }

    /// What ends it.
    pub(super) fn end(&self) -> Op {
        Op::Delete { key: request_key(&self.request.id) }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It waits.
    Written,
    /// There is no room for another.
    Full,
}

impl Requests {
    /// All that are there, the oldest first.
    pub(super) async fn all(&self) -> Result<Vec<Found>, StrongError> {
        let mut all = Vec::new();
        let take = |page: Vec<KeyValue>| {
            for kv in page {
                match serde_json::from_slice(&kv.value) {
                    Ok(request) => {
                        all.push(Found { request, revision: kv.mod_revision });
                    }
                    Err(reason) => {
                        warn!(key = kv.key, %reason, "a request for a failover is unreadable");
                    }
                }
            }
        };
        read_pages(self.engine.as_ref(), REQUESTS_PREFIX, take).await?;
        all.sort_by(|a, b| {
            let order = |it: &Found| (it.request.asked_at, it.request.id.clone());
            order(a).cmp(&order(b))
        });
        Ok(all)
    }

    /// Removes what has expired of these, as far as the engine does it now; the rest is refused
    /// all the same.
    pub(super) async fn sweep(&self, all: &[Found]) {
        let now = self.clock.now();
        for over in all.iter().filter(|it| it.request.has_expired(now)) {
            let id = &over.request.id;
            match self.remove(over).await {
                Ok(_) => info!(id, "a request for a failover expired"),
                Err(reason) => {
                    info!(id, %reason, "a request that expired is removed later");
                }
            }
        }
    }

    /// Writes one more, if there is room.
    pub(super) async fn add(&self, request: &Request) -> Result<Added, StrongError> {
        // Whoever else is first takes a place, and after so many there is none.
        for _ in 0..=REQUESTS_MAX {
            let turn = self.engine.get(REQUESTS_TURN_KEY).await?;
            let all = self.all().await?;
            self.sweep(&all).await;
            let now = self.clock.now();
            let open = all.iter().filter(|it| !it.request.has_expired(now)).count();
            if open >= REQUESTS_MAX {
                return Ok(Added::Full);
            }
            let key = request_key(&request.id);
            let turn = Compare::as_found(REQUESTS_TURN_KEY, turn.as_ref());
            let compare = vec![turn, Compare::absent(key.clone())];
            let turn = REQUESTS_TURN_KEY.to_owned();
            let then = vec![
                Op::Put { key, value: stored(request)?, lease: None },
                Op::Put { key: turn, value: stored(&request.id)?, lease: None },
            ];
            let done = engine::swap(self.engine.as_ref(), compare, then).await?;
            if done.is_some() {
                return Ok(Added::Written);
            }
        }
        let reason = "others ask for failovers all the time".to_owned();
        Err(StrongError::Unavailable { reason })
    }

    /// Removes one; says whether it was there as it was read.
    pub(super) async fn remove(&self, found: &Found) -> Result<bool, StrongError> {
        let engine = self.engine.as_ref();
        let done = engine::swap(engine, vec![found.stands()], vec![found.end()]).await?;
        Ok(done.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use dwcp_runtime::clock::ManualClock;
    use dwcp_runtime::strong::EmbeddedEngine;
    use dwcp_types::{RegionId, Timestamp};
    use futures_util::future::join_all;
    use tempfile::TempDir;

    const MINUTE: Duration = Duration::from_mins(1);

    fn engine() -> (TempDir, Arc<ManualClock>, Requests) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
        let file = folder.path().join("e.redb");
        let engine = EmbeddedEngine::open(&file, clock.clone()).unwrap();
        let requests = Requests { engine: Arc::new(engine), clock: clock.clone() };
        (folder, clock, requests)
    }

    fn request(id: &str, clock: &ManualClock) -> Request {
        Request {
            id: id.to_owned(),
            from_region: RegionId::new("far").unwrap(),
            to_regions: None,
            hosts_off: None,
            accept_data_loss: false,
            even_if_alive: false,
            reason: "fire".to_owned(),
            asked_by: "alice".to_owned(),
            asked_at: clock.now(),
            until: clock.now().plus(MINUTE),
        }
    }

    async fn names(requests: &Requests) -> Vec<String> {
        let all = requests.all().await.unwrap();
        all.into_iter().map(|found| found.request.id).collect()
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_however_many_ask_at_once() {
        let (_folder, clock, requests) = engine();
        let asked: Vec<_> = (0..REQUESTS_MAX + 4)
            .map(|at| request(&format!("fr-{at}"), &clock))
            .collect();
        let added = join_all(asked.iter().map(|it| requests.add(it))).await;
        let added: Vec<_> = added.into_iter().map(Result::unwrap).collect();
        let full = added.iter().filter(|it| **it == Added::Full).count();
        assert_eq!((full, names(&requests).await.len()), (4, REQUESTS_MAX));
        clock.advance(MINUTE);
        let late = request("fr-late", &clock);
        assert_eq!(requests.add(&late).await, Ok(Added::Written));
        assert_eq!(names(&requests).await, ["fr-late"], "the others made room");
    }

    #[tokio::test]
    async fn what_expired_is_removed_and_the_rest_is_there_in_order() {
        let (_folder, clock, requests) = engine();
        requests.add(&request("fr-z", &clock)).await.unwrap();
        clock.advance(Duration::from_secs(1));
        requests.add(&request("fr-b", &clock)).await.unwrap();
        requests.add(&request("fr-a", &clock)).await.unwrap();
        let all = requests.all().await.unwrap();
        requests.sweep(&all).await;
        assert_eq!(names(&requests).await, ["fr-z", "fr-a", "fr-b"]);
        clock.advance(MINUTE - Duration::from_secs(1));
        requests.sweep(&all).await;
        assert_eq!(names(&requests).await, ["fr-a", "fr-b"]);
    }

    #[tokio::test]
    async fn it_is_ended_once() {
        let (_folder, clock, requests) = engine();
        requests.add(&request("fr-1", &clock)).await.unwrap();
        let all = requests.all().await.unwrap();
        assert_eq!(requests.remove(&all[0]).await, Ok(true));
        assert_eq!(requests.remove(&all[0]).await, Ok(false));
        // Another one of the same name is another one.
        requests.add(&request("fr-1", &clock)).await.unwrap();
        assert_eq!(requests.remove(&all[0]).await, Ok(false));
        assert_eq!(names(&requests).await, ["fr-1"]);
    }
}
