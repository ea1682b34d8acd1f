//! Where keys are to be (S16, S17): in how many regions each prefix is, slots that somebody
//! moved, and what of both is so by now. The steps that bring slots there are taken by the
//! membership's keepers ([`super::membership`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dwcp_api::shards::{
    AskShards, KeyPlace, MoveSlot, ShardBy, ShardItem, ShardList, SlotPlace,
};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_runtime::strong::{Compare, KeyValue, Op, OpId, StrongEngine, Txn, TxnOutcome};
use dwcp_state::policy::Plane;
use dwcp_state::shard::{
    Jurisdiction, JurisdictionName, Placement, ShardBy as By, ShardError, ShardMap, Slot,
    Wanted, slot_of,
};
use dwcp_state::{Membership, Policy};
use dwcp_types::RegionId;
use tokio::sync::watch;

use crate::commit::encoded;
use crate::engine;

/// The record of where slots are to be.
pub(crate) const WANTED: &str = "/state/wanted";
/// Attempts at a change that others keep overtaking.
const ATTEMPTS_MAX: usize = 16;
const SLOTS: std::ops::RangeInclusive<Slot> = 0..=Slot::MAX;

/// Where the slots of each area are to be that keeps a number of copies.
pub(crate) type WantedAreas = BTreeMap<JurisdictionName, Wanted>;
/// The newest of them.
pub(crate) type WantedView = watch::Receiver<Arc<WantedAreas>>;

/// The area of a prefix whose slots are spread; it has one of its own, so that they can move
/// without those of others.
pub(crate) fn area_of(prefix: &str) -> JurisdictionName {
    format!("{prefix}*").as_str().into()
}

/// Whether an area is such a prefix's own.
pub(crate) fn is_spread(area: &JurisdictionName) -> bool {
    area.as_str().ends_with('*')
}

/// Makes the area of a prefix whose keys are in some of the regions only. Slots that hold keys
/// by the rule before stay where they are, and go from there to where they are wanted.
pub(crate) fn spread(
    shards: &mut ShardMap,
    prefix: &str,
    (wanted, voting): (&Wanted, &BTreeSet<RegionId>),
    before: Option<&JurisdictionName>,
) -> JurisdictionName {
    let name = area_of(prefix);
    let held = before.and_then(|before| shards.jurisdictions.get(before)).cloned();
    let area = shards
        .jurisdictions
        .entry(name.clone())
        .or_insert_with(|| held.unwrap_or_else(|| wanted.area(voting)));
    area.allow(wanted, voting);
    name
}

/// Notes where the slots of a prefix are to be. Those that somebody moved stay moved while the
/// number of copies and the regions are the same.
pub(crate) fn want(areas: &mut WantedAreas, prefix: &str, wanted: Option<Wanted>) {
    let Some(wanted) = wanted else { return };
    let name = area_of(prefix);
    let same = |it: &Wanted| it.legal == wanted.legal && it.copies == wanted.copies;
    if !areas.get(&name).is_some_and(same) {
        areas.insert(name, wanted);
    }
}

/// Writes down that a slot is to leave a region for another; gives what is wanted then.
///
/// # Errors
///
/// When its prefix is not spread, it is not where it is said to be, or may not go there.
pub(crate) async fn move_slot(
    engine: &dyn StrongEngine,
    ask: &MoveSlot,
    voting: &BTreeSet<RegionId>,
) -> Result<WantedAreas, ApiError> {
    let name = area_of(&ask.prefix);
    change(engine, |areas| {
        let area = areas.get_mut(&name).ok_or_else(|| not_spread(&ask.prefix))?;
        let way = (&ask.from, &ask.to);
        area.pin(ask.slot, way, voting).map_err(|error| refused(&error))
    })
    .await
}

/// Changes the record by compare-and-set; gives what it is then.
async fn change(
    engine: &dyn StrongEngine,
    step: impl Fn(&mut WantedAreas) -> Result<(), ApiError>,
) -> Result<WantedAreas, ApiError> {
    for _ in 0..ATTEMPTS_MAX {
        let record = engine.get(WANTED).await.map_err(|error| engine::failed(&error))?;
        let before = read(record.as_ref()).map_err(internal)?;
        let mut next = before.clone();
        step(&mut next)?;
        if next == before {
            return Ok(next);
        }
        let value = encoded(&next).map_err(internal)?;
        let txn = Txn {
            compare: vec![Compare::as_found(WANTED, record.as_ref())],
            then: vec![Op::put(WANTED, value)],
            op_id: Some(OpId::random()),
        };
        let done = engine.txn(txn).await.map_err(|error| engine::failed(&error))?;
        if let TxnOutcome::Committed { .. } = done {
            return Ok(next);
        }
    }
    Err(ApiError::new(ErrorCode::Busy, "others move slots all the time")
        .with_remedy("ask again"))
}

fn internal(reason: String) -> ApiError {
    ApiError::new(ErrorCode::Internal, reason)
}

/// Reads the record; where there is none, nothing is wanted.
///
/// # Errors
///
/// Why this program cannot read it.
pub(crate) fn read(record: Option<&KeyValue>) -> Result<WantedAreas, String> {
    let Some(record) = record else { return Ok(WantedAreas::new()) };
    serde_json::from_slice(&record.value).map_err(|error| format!("{WANTED}: {error}"))
}

/// Why slots are not placed so.
pub(crate) fn refused(error: &ShardError) -> ApiError {
    let text = error.to_string();
    let (message, remedy) = text.split_once("; ").unwrap_or((&text, ""));
    ApiError::new(ErrorCode::Refused, message).with_remedy(remedy)
}

fn not_spread(prefix: &str) -> ApiError {
    let message = format!("every region that may hold {prefix:?} holds all of it");
    ApiError::new(ErrorCode::Refused, message).with_remedy(
        "give it a number of copies first: dwcp-cli federation state configure --copies",
    )
}

/// Where keys are, and are to be.
///
/// # Errors
///
/// When no rule covers the key that is asked for.
pub(crate) fn shown(
    now: &Membership,
    wanted: &WantedAreas,
    ask: &AskShards,
) -> Result<ShardList, ApiError> {
    let voting = now.voting();
    let rules = now.policies.iter().filter(|(_, it)| it.plane == Plane::Replicated);
    let items = rules.filter_map(|(prefix, policy)| {
        let name = &policy.jurisdiction;
        let area = now.shards.jurisdictions.get(name)?;
        let seen = Seen { area, wanted: wanted.get(name), voting: &voting };
        Some(seen.item(prefix, policy))
    });
    let items = items.collect();
    let Some(key) = &ask.key else {
        return Ok(ShardList { epoch: now.epoch, items, key: None });
    };
    let none = || {
        ApiError::new(ErrorCode::Refused, format!("no rule covers the key {key:?}"))
            .with_remedy("see the rules: dwcp-cli federation state policies")
    };
    let (prefix, policy) = now.policies.rule_of(key).ok_or_else(none)?;
    let name = &policy.jurisdiction;
    let area = now.shards.jurisdictions.get(name).ok_or_else(none)?;
    let seen = Seen { area, wanted: wanted.get(name), voting: &voting };
    let at = seen.place(slot_of(key, policy.shard_by));
    let key = Some(KeyPlace { key: key.clone(), prefix: prefix.to_owned(), at });
    Ok(ShardList { epoch: now.epoch, items, key })
}

/// An area, and where its slots are to be.
struct Seen<'a> {
    area: &'a Jurisdiction,
    wanted: Option<&'a Wanted>,
    voting: &'a BTreeSet<RegionId>,
}

impl Seen<'_> {
    fn item(&self, prefix: &str, policy: &Policy) -> ShardItem {
        let area = self.area;
        let copies = self.wanted.map_or(area.usual.voters.len(), |wanted| wanted.copies);
        let moving = SLOTS.filter(|slot| self.place(*slot).is_moving()).count();
        let pinned = self.wanted.into_iter().flat_map(|it| it.pinned.keys());
        ShardItem {
            prefix: prefix.to_owned(),
            shard_by: shown_by(policy.shard_by),
            regions: area.legal.iter().cloned().collect(),
            copies: u32::try_from(copies).unwrap_or(u32::MAX),
            slots: counted(area, |placement| placement.voters.iter()),
            learning: counted(area, |placement| placement.learners.iter()),
            moving: u32::try_from(moving).unwrap_or(u32::MAX),
            moved: pinned.map(|slot| self.place(*slot)).collect(),
        }
    }

    fn place(&self, slot: Slot) -> SlotPlace {
        let placement = self.area.placement(slot);
        let wanted = match self.wanted {
            Some(wanted) => wanted.regions(slot, self.voting),
            None => placement.voters.clone(),
        };
        SlotPlace {
            slot,
            regions: placement.voters.iter().cloned().collect(),
            learning: placement.learners.iter().cloned().collect(),
            wanted: wanted.into_iter().collect(),
        }
    }
}

/// How many slots name each region.
fn counted<'a, I: Iterator<Item = &'a RegionId>>(
    area: &'a Jurisdiction,
    of: impl Fn(&'a Placement) -> I,
) -> BTreeMap<RegionId, u32> {
    let mut counts = BTreeMap::new();
    for region in SLOTS.flat_map(|slot| of(area.placement(slot))) {
        *counts.entry(region.clone()).or_default() += 1;
    }
    counts
}

/// What decides a slot, as the API names it; a rule of the core may know more.
pub(crate) const fn shown_by(by: By) -> ShardBy {
    match by {
        By::Key => ShardBy::Key,
        By::Segments(0 | 1) => ShardBy::Tenant,
        By::Segments(_) => ShardBy::Type,
    }
}

/// What decides a slot, as the core names it.
pub(crate) const fn by(by: ShardBy) -> By {
    match by {
        ShardBy::Key => By::Key,
        ShardBy::Tenant => By::TENANT,
        ShardBy::Type => By::TYPE,
    }
}
