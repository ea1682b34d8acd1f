//! Everything that can be asked, answered beforehand (P5.2, P6): a value that never changes.
//!
//! Whoever makes tables makes the next from the one before, so that leaders are kept and shares
//! move slowly, and swaps it in whole. Readers keep the one that they have until they look
//! again; the generation in each answer says which it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use dwcp_types::{RegionId, ServiceId, Timestamp};

use crate::build::Memory;
use crate::decide::{Key, RegionIx, Standing};
use crate::input::Inputs;
use crate::near::Ways;
use crate::plan::Plan;
use crate::service::{CLASSES, Requirement, Service};
use crate::share::{Entry, Past, flag, settle};
use crate::weigh::{Field, Notes, Prices, weigh};

/// A routing table.
#[derive(Debug)]
pub struct Table {
    pub(crate) generation: u64,
    pub(crate) inputs: Inputs,
    pub(crate) services: BTreeMap<ServiceId, u16>,
    pub(crate) ways: Ways,
    pub(crate) prices: Prices,
    /// By service, then by class.
    pub(crate) plans: Vec<Plan>,
    /// By service, then by class, then by cell.
    pub(crate) entries: Arc<[Entry]>,
    pub(crate) salts: Vec<u64>,
    pub(crate) memory: Memory,
}

impl Table {
    /// Its number; a later table of the same maker has a higher one.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// When its inputs were put together.
    #[must_use]
    pub const fn built_at(&self) -> Timestamp {
        self.inputs.now
    }

    /// What it was made from; regions and services are in its own order.
    #[must_use]
    pub const fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// How many answers it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no answer at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of a service.
    #[must_use]
    pub fn service(&self, id: &ServiceId) -> Option<u16> {
        self.services.get(id).copied()
    }

    /// The name of a region.
    #[must_use]
    pub fn region(&self, region: RegionIx) -> &RegionId {
        &self.inputs.sites[region.get()].id
    }

    /// A region's place.
    #[must_use]
    pub fn region_ix(&self, id: &RegionId) -> Option<RegionIx> {
        let at = self.inputs.sites.binary_search_by(|site| site.id.cmp(id)).ok()?;
        u8::try_from(at).ok().map(RegionIx)
    }

    #[inline]
    pub(crate) fn salt(&self, site: u8) -> u64 {
        self.salts[usize::from(site)]
    }

    #[inline]
    pub(crate) fn entry(&self, key: &Key) -> Option<(&Plan, &Entry)> {
        let (cell, cells) = (key.cell as usize, self.inputs.cells.len());
        let plan = usize::from(key.service) * CLASSES + key.class as usize;
        if cell >= cells {
            return None;
        }
        Some((self.plans.get(plan)?, self.entries.get(plan * cells + cell)?))
    }

    pub(crate) fn service_of(&self, key: &Key) -> Option<&Service> {
        self.inputs.services.get(usize::from(key.service))
    }

    /// The plan of a request with limits of its own; nothing for a key that is none.
    pub(crate) fn plan_for(&self, key: &Key, wanted: Requirement) -> Option<Plan> {
        self.entry(key)?;
        Some(Plan::new(&self.inputs, self.service_of(key)?, wanted))
    }

    pub(crate) fn field(&self, cell: usize, standing: Standing) -> Field<'_> {
        Field {
            sites: &self.inputs.sites,
            prices: &self.prices,
            row: self.ways.row(cell),
            standing,
        }
    }

    /// An answer that is made now, for limits or a standing that the table does not know.
    /// Shares are not paced, because what they are paced from was made under other limits.
    pub(crate) fn answer<N: Notes>(
        &self,
        plan: &Plan,
        key: &Key,
        standing: Standing,
        notes: &mut N,
    ) -> Entry {
        let field = self.field(key.cell as usize, standing);
        answer(plan, field, None, notes)
    }
}

/// The one way to an answer: weigh, then settle.
#[inline]
pub(crate) fn answer<N: Notes>(
    plan: &Plan,
    field: Field<'_>,
    past: Option<&Past>,
    notes: &mut N,
) -> Entry {
    let ranked = weigh(plan, field, notes);
    let mut entry = settle(plan, &ranked, past);
    if !field.row.placed {
        entry.flags |= flag::PLACELESS;
    }
    entry
}
