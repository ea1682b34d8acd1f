//! What the last table was made of, on disk, so that a daemon which starts while the strong
//! engine is away answers as before (static stability, ROUTING 6.1).
//!
//! Kept are the regions, the lines between them and what an operator chose; services and clients
//! are the file's. Everything keeps its age: what was measured before the start fades as it
//! would have, and what is heard since counts. One row, written when somebody chose otherwise or
//! the regions are others, and else once in [`KEEP_EVERY`].
//! Rejected: the table itself, which is larger, and says nothing once a region is added.

use std::sync::Arc;
use std::time::Duration;

use dwcp_router::{Link, Site, Spot};
use dwcp_runtime::store::{Change, LocalStore};
use dwcp_types::{RegionId, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::settings::Settings;

/// Where it lies in the region's store.
const KEY: &str = "routing/last";
/// What is kept may be so old: regions come and go in days, and round trips fade anyway.
const KEEP_EVERY: Duration = Duration::from_secs(30);

/// What tables were made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// When.
    pub(super) at: Timestamp,
    /// What an operator chose.
    pub(super) settings: Settings,
    /// Regions in the order in which they were seen, which is that of their cells.
    pub(super) seen: Vec<(RegionId, Spot)>,
    /// Regions.
    pub(super) sites: Vec<Site>,
    /// What was known between them.
    pub(super) links: Vec<Link>,
}

/// The row, and what was written last.
#[derive(Debug)]
pub(super) struct Memory {
    store: Arc<LocalStore>,
    written: Option<Known>,
    told: bool,
}

impl Memory {
    pub(super) const fn new(store: Arc<LocalStore>) -> Self {
        Self { store, written: None, told: false }
    }

    /// What was kept; nothing when there is none or it cannot be read, which is told.
    pub(super) fn recall(&self) -> Option<Known> {
        let row = self.store.get(KEY).inspect_err(|reason| complain(reason)).ok()??;
        let known: Known =
            serde_json::from_slice(&row).inspect_err(|reason| complain(reason)).ok()?;
        info!(regions = known.sites.len(), "regions are known from before the start");
        Some(known)
    }

    /// Whether what is kept is old or something else.
    pub(super) fn is_due(
        &self,
        settings: &Settings,
        seen: &[(RegionId, Spot)],
        now: Timestamp,
    ) -> bool {
        self.written.as_ref().is_none_or(|known| {
            let age = now.since(known.at).max(known.at.since(now));
            age >= KEEP_EVERY || known.settings != *settings || known.seen != seen
        })
    }

    /// Keeps this. A disk that fails costs the memory and no table.
    pub(super) async fn keep(&mut self, known: Known) {
        let Ok(value) = serde_json::to_vec(&known) else { return };
        self.written = Some(known);
        let change = Change::Put { key: KEY.to_owned(), value: value.into() };
        let done = self.store.apply(vec![change]).await;
        if let (Err(reason), false) = (&done, self.told) {
            complain(reason);
        }
        self.told = done.is_err();
    }
}

fn complain(reason: &dyn std::fmt::Display) {
    warn!(%reason, "what routing knew is not kept on disk");
}
