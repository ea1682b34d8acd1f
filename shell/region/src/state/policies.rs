//! The rules of key prefixes, and the rights that are minted under them: what of replicated
//! state needs the strong engine first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::shards::MoveSlot;
use dwcp_api::state::{Eviction, StateKind, StateLevel, StatePolicies, StatePolicy};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_runtime::strong::{Compare, Op, OpId, StrongEngine, Txn, TxnOutcome};
use dwcp_state::policy::Plane;
use dwcp_state::shard::{
    Jurisdiction, JurisdictionName, SPREAD_MAX, ShardError, ShardMap, Wanted,
};
use dwcp_state::{Actor, Kind, Level, Membership, MintId, Policies, Policy, Update};
use dwcp_types::RegionId;
use serde::{Deserialize, Serialize};

use super::membership::{self, ChangeError};
use super::shards::{self, WantedAreas};
use super::translate;
use crate::config::StateRule;
use crate::engine;

/// The jurisdiction of keys that every region may hold.
pub(crate) const EVERYWHERE: &str = "everywhere";
/// Where mints are decided.
const MINTS: &str = "/state/mints/";

/// An operation id that nobody else has.
pub(crate) fn fresh_op_id() -> String {
    OpId::random().to_string()
}

/// Changes rules, and decides mints.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    engine: Arc<dyn StrongEngine>,
}

/// Rights that the strong engine made, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mint {
    key: String,
    amount: u64,
    to: Actor,
}

impl Rules {
    /// By this engine.
    pub(crate) fn new(engine: Arc<dyn StrongEngine>) -> Self {
        Self { engine }
    }

    /// Sets the rule of a prefix, as the next epoch of the membership.
    ///
    /// # Errors
    ///
    /// When the rule cannot be, keys that exist would change their kind, a voter has not settled
    /// yet, or the engine does not answer.
    pub(crate) async fn set(
        &self,
        asked: &StatePolicy,
    ) -> Result<(Membership, WantedAreas), ApiError> {
        let now = membership::now(self.engine.as_ref())
            .await
            .map_err(|error| not_changed(&error))?;
        known(&now, asked)?;
        let rule = rule_of(asked, &now);
        with_rule(&now, &rule).map_err(|error| shards::refused(&error))?;
        let step = |now: &Membership, before: &WantedAreas| {
            let (next, wanted) = with_rule(now, &rule).ok()?;
            let mut areas = before.clone();
            shards::want(&mut areas, &rule.prefix, wanted);
            let differs = next.policies != now.policies || next.shards != now.shards;
            // Where slots are to be may change alone, and then all waits as long as it would.
            (differs || areas != *before).then_some((next, areas))
        };
        membership::change(self.engine.as_ref(), step)
            .await
            .map_err(|error| not_changed(&error))
    }

    /// Has a slot leave a region for another.
    ///
    /// # Errors
    ///
    /// As [`shards::move_slot`].
    pub(crate) async fn move_slot(
        &self,
        ask: &MoveSlot,
        voting: &BTreeSet<RegionId>,
    ) -> Result<WantedAreas, ApiError> {
        shards::move_slot(self.engine.as_ref(), ask, voting).await
    }

    /// Puts a region's replica out. Its daemon, when it runs, joins again by itself and begins
    /// empty; what it had and had not sent is kept apart there.
    ///
    /// # Errors
    ///
    /// When there is no such replica, another voter has not settled yet, or the engine does not
    /// answer.
    pub(crate) async fn evict(&self, region: &RegionId) -> Result<Eviction, ApiError> {
        let of = |now: &Membership| {
            let found = now.members.iter().find(|(_, member)| member.region == *region);
            found.map(|(id, _)| *id)
        };
        let now = membership::now(self.engine.as_ref())
            .await
            .map_err(|error| not_changed(&error))?;
        let Some(replica) = of(&now) else {
            let known: Vec<String> =
                now.members.values().map(|member| member.region.to_string()).collect();
            let message = format!("region {region} has no replica among the members");
            return Err(ApiError::new(ErrorCode::NotFound, message)
                .with_remedy(format!("name one of {}", known.join(", "))));
        };
        // Only that admission: it may have come back meanwhile.
        let admission = now.members.get(&replica).map(|member| member.admission);
        let step = |now: &Membership| {
            let same =
                now.members.get(&replica).map(|member| member.admission) == admission;
            same.then(|| now.evicting(replica))
        };
        let next = membership::change_members(self.engine.as_ref(), step)
            .await
            .map_err(|error| not_changed(&error))?;
        Ok(Eviction { region: region.clone(), epoch: next.epoch })
    }

    /// Decides in the strong engine that a key gets new rights, once for each operation id, and
    /// gives the change that makes them known.
    ///
    /// # Errors
    ///
    /// When the id was used for something else, or the engine does not answer.
    pub(crate) async fn mint(
        &self,
        key: &str,
        amount: u64,
        op_id: &str,
        to: Actor,
    ) -> Result<Update, ApiError> {
        let wanted = Mint { key: key.to_owned(), amount, to };
        let decided = self.decided(&wanted, op_id).await?;
        if (&decided.key, decided.amount) != (&wanted.key, wanted.amount) {
            let message = format!("the operation {op_id:?} minted something else before");
            return Err(ApiError::new(ErrorCode::Conflict, message)
                .with_remedy("use a new id for another mint"));
        }
        let id = MintId::new(translate::op_number(op_id));
        Ok(Update::Mint { id, to: decided.to, amount: decided.amount })
    }

    async fn decided(&self, wanted: &Mint, op_id: &str) -> Result<Mint, ApiError> {
        let path = format!("{MINTS}{:032x}", translate::op_number(op_id));
        let value = serde_json::to_vec(wanted)
            .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
        let txn = Txn {
            compare: vec![Compare::absent(path.clone())],
            then: vec![Op::put(path, value)],
            op_id: Some(OpId::random()),
        };
        match self
            .engine
            .txn(txn)
            .await
            .map_err(|error| engine::failed_under(&error, op_id))?
        {
            TxnOutcome::Committed { .. } => Ok(wanted.clone()),
            TxnOutcome::Conflict { current } => {
                let before = current.first().and_then(|(_, kv)| kv.as_ref());
                before.and_then(|kv| serde_json::from_slice(&kv.value).ok()).ok_or_else(
                    || {
                        ApiError::new(
                            ErrorCode::Internal,
                            "the record of a mint is unreadable",
                        )
                    },
                )
            }
        }
    }
}

fn not_changed(error: &ChangeError) -> ApiError {
    let code = match error {
        ChangeError::Engine(error) => return engine::failed(error),
        ChangeError::None => ErrorCode::Unavailable,
        ChangeError::Denied(_) => ErrorCode::Refused,
        ChangeError::Contended => ErrorCode::Busy,
        ChangeError::Unreadable(_) => ErrorCode::Internal,
    };
    let text = error.to_string();
    match text.split_once("; ") {
        Some((message, remedy)) => ApiError::new(code, message).with_remedy(remedy),
        None => ApiError::new(code, text),
    }
}

/// Refuses a rule about regions that have no replica, and one that would move keys where they
/// may not be.
fn known(now: &Membership, rule: &StatePolicy) -> Result<(), ApiError> {
    let known: Vec<&RegionId> =
        now.members.values().map(|member| &member.region).collect();
    if let Some(unknown) = rule.regions.iter().find(|region| !known.contains(region)) {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        let message = format!("region {unknown} has no replica");
        return Err(ApiError::new(ErrorCode::Invalid, message)
            .with_remedy(format!("name some of {}", known.join(", "))));
    }
    spreads(now, rule)?;
    keeps_fence(now, rule)
}

/// Refuses to spread what cannot be, and to have slots jump from some regions to all.
fn spreads(now: &Membership, rule: &StatePolicy) -> Result<(), ApiError> {
    let area = shards::area_of(&rule.prefix);
    let Some(_) = rule.copies else {
        let mut rules = now.policies.iter();
        if rules.any(|(prefix, it)| **prefix == *rule.prefix && it.jurisdiction == area) {
            let message =
                format!("the keys of {:?} are in some regions only", rule.prefix);
            return Err(ApiError::new(ErrorCode::Refused, message).with_remedy(format!(
                "say --copies, also to have them in all regions again: --copies {}",
                now.voting().len()
            )));
        }
        return Ok(());
    };
    if rule.kind == StateKind::Bounded {
        let message = "each region has rights of its own in a bounded counter, and would lose \
                       them with the slot";
        return Err(ApiError::new(ErrorCode::Refused, message)
            .with_remedy("leave --copies away: every region holds them"));
    }
    let areas = now.shards.jurisdictions.keys();
    let spread = areas.filter(|it| shards::is_spread(it) && **it != area).count();
    if spread < SPREAD_MAX {
        return Ok(());
    }
    let message =
        format!("{spread} prefixes are spread already, which is as many as may be");
    Err(ApiError::new(ErrorCode::Refused, message)
        .with_remedy("have a rule of theirs cover more keys: a shorter prefix"))
}

/// Refuses to lift a fence by not mentioning it (F45).
fn keeps_fence(now: &Membership, rule: &StatePolicy) -> Result<(), ApiError> {
    let before = now.policies.of(&rule.prefix).map(|it| &it.jurisdiction);
    let everywhere = before.is_none_or(|it| it.as_str() == EVERYWHERE);
    let area = before.and_then(|it| now.shards.jurisdictions.get(it));
    let Some(area) = area.filter(|_| rule.regions.is_empty() && !everywhere) else {
        return Ok(());
    };
    let outside = now.voting().difference(&area.legal).next().cloned();
    let Some(outside) = outside else { return Ok(()) };
    let legal: Vec<&str> = area.legal.iter().map(RegionId::as_str).collect();
    let message = format!(
        "the keys of {:?} may not be in {outside}, and without regions they would be allowed there",
        rule.prefix
    );
    Err(ApiError::new(ErrorCode::Refused, message)
        .with_remedy(format!("name the regions: --regions {}", legal.join(","))))
}

/// The next epoch, with one rule set, and where its slots are to be when they are spread.
fn with_rule(
    now: &Membership,
    rule: &StateRule,
) -> Result<(Membership, Option<Wanted>), ShardError> {
    let mut next = now.clone();
    next.epoch += 1;
    let voting = now.voting();
    let wanted = wanted_of(rule, &voting)?;
    let before = now.policies.of(&rule.prefix).map(|it| it.jurisdiction.clone());
    let spread = wanted.as_ref().map(|wanted| (wanted, &voting));
    let policy = policy(&mut next.shards, rule, spread, before.as_ref());
    let rows =
        now.policies.iter().map(|(prefix, policy)| (prefix.clone(), policy.clone()));
    let rows = rows.filter(|(prefix, _)| **prefix != *rule.prefix);
    let added = (Arc::from(rule.prefix.as_str()), policy);
    next.policies = Policies::new(rows.chain([added]));
    Ok((next, wanted))
}

/// Where the slots of a rule are to be: in some of its regions, which are all that vote when it
/// names none. Nothing when every region holds all of it.
///
/// # Errors
///
/// When there are fewer regions than copies.
pub(crate) fn wanted_of(
    rule: &StateRule,
    voting: &BTreeSet<RegionId>,
) -> Result<Option<Wanted>, ShardError> {
    let Some(copies) = rule.copies.filter(|_| rule.kind.is_some()) else {
        return Ok(None);
    };
    Wanted::spread(rule.regions.iter().cloned().collect(), copies, voting).map(Some)
}

/// A rule that was asked for, as a file has it. What decides slots stays as it is when nothing
/// is said about it.
fn rule_of(asked: &StatePolicy, now: &Membership) -> StateRule {
    let as_it_is = || now.policies.of(&asked.prefix).map(|policy| policy.shard_by);
    let shard_by = asked.shard_by.map(shards::by).or_else(as_it_is);
    StateRule {
        prefix: asked.prefix.clone(),
        kind: translate::kind(asked.kind),
        level: translate::level(asked.level),
        regions: asked.regions.clone(),
        ttl: asked.ttl_ms.map(Duration::from_millis),
        copies: asked.copies.map(|it| usize::try_from(it).unwrap_or(usize::MAX)),
        shard_by: shard_by.unwrap_or_default(),
    }
}

/// A jurisdiction is named by the regions that it is made of: the same ones, the same name.
fn jurisdiction_of(regions: &[RegionId]) -> JurisdictionName {
    if regions.is_empty() {
        return EVERYWHERE.into();
    }
    let mut names: Vec<&str> = regions.iter().map(RegionId::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.join("+").as_str().into()
}

/// A rule as the core has it; the area of law that it names is made where it is new. Records of
/// the engine have no kind.
pub(crate) fn policy(
    shards: &mut ShardMap,
    rule: &StateRule,
    spread: Option<(&Wanted, &BTreeSet<RegionId>)>,
    before: Option<&JurisdictionName>,
) -> Policy {
    let jurisdiction = match spread {
        Some(wanted) => shards::spread(shards, &rule.prefix, wanted, before),
        None => jurisdiction_of(&rule.regions),
    };
    if spread.is_none() && !rule.regions.is_empty() {
        let legal = Jurisdiction::everywhere(rule.regions.iter().cloned());
        shards.jurisdictions.entry(jurisdiction.clone()).or_insert(legal);
    }
    let Some(kind) = rule.kind else {
        // The kind says nothing about records of the engine; bytes they are in any case.
        return Policy::of(Kind::Register, Level::Strong, jurisdiction);
    };
    let (ttl, shard_by) = (rule.ttl, rule.shard_by);
    Policy { ttl, shard_by, ..Policy::of(kind, rule.level, jurisdiction) }
}

/// Every rule as the API has it.
pub(crate) fn shown(membership: &Membership, wanted: &WantedAreas) -> StatePolicies {
    let item = |(prefix, policy): (&Arc<str>, &Policy)| {
        let engine = policy.plane == Plane::Engine;
        let everywhere = policy.jurisdiction.as_str() == EVERYWHERE;
        let area = membership.shards.jurisdictions.get(&policy.jurisdiction);
        let legal = area.filter(|_| !everywhere && !engine).map(|area| &area.legal);
        let copies = wanted.get(&policy.jurisdiction).filter(|_| !engine);
        // As the rule names them: slots may still be on their way from others.
        let legal = copies.map(|wanted| &wanted.legal).or(legal);
        StatePolicy {
            prefix: prefix.to_string(),
            kind: if engine {
                StateKind::Strong
            } else {
                translate::shown_kind(policy.kind)
            },
            level: if engine {
                StateLevel::Strong
            } else {
                translate::shown_level(policy.floor)
            },
            regions: legal.into_iter().flatten().cloned().collect(),
            ttl_ms: policy.ttl.and_then(|ttl| u64::try_from(ttl.as_millis()).ok()),
            copies: copies.and_then(|wanted| u32::try_from(wanted.copies).ok()),
            shard_by: Some(shards::shown_by(policy.shard_by)),
        }
    };
    StatePolicies { items: membership.policies.iter().map(item).collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dwcp_api::shards::ShardBy;
    use dwcp_state::membership::{ClusterId, Member, Phase};
    use dwcp_state::{ReplicaId, Settled};

    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::new(name).unwrap()
    }

    fn rule(prefix: &str, regions: &[&str], copies: Option<u32>) -> StatePolicy {
        StatePolicy {
            prefix: prefix.to_owned(),
            kind: StateKind::Last,
            level: StateLevel::Local,
            regions: regions.iter().map(|name| region(name)).collect(),
            ttl_ms: None,
            copies,
            shard_by: None,
        }
    }

    /// Four regions that vote, under these rules from the beginning.
    fn federation(rules: &[StatePolicy]) -> (Membership, WantedAreas) {
        let names = ["a", "b", "c", "d"];
        let member =
            |name| Member { region: region(name), admission: 1, phase: Phase::Active };
        let members = (1..).map(ReplicaId::new).zip(names.map(member)).collect();
        let shards = ShardMap::single(EVERYWHERE.into(), names.map(region));
        let mut first = Membership {
            cluster: ClusterId::new(1),
            epoch: 1,
            members,
            evicted: BTreeMap::new(),
            policies: Policies::new([]),
            shards,
        };
        let mut areas = WantedAreas::new();
        for asked in rules {
            let (next, wanted) = with_rule(&first, &rule_of(asked, &first)).unwrap();
            shards::want(&mut areas, &asked.prefix, wanted);
            first = Membership { epoch: 1, ..next };
        }
        first.check().unwrap();
        (first, areas)
    }

    /// Sets a rule, if it may follow.
    fn set(
        now: &Membership,
        areas: &mut WantedAreas,
        asked: &StatePolicy,
    ) -> Result<Membership, String> {
        known(now, asked).map_err(|error| error.to_string())?;
        let (next, wanted) = with_rule(now, &rule_of(asked, now)).unwrap();
        let all = now.members.keys().map(|id| (*id, Settled::in_epoch(now.epoch)));
        now.ready_for(&next, &all.collect()).map_err(|error| error.to_string())?;
        shards::want(areas, &asked.prefix, wanted);
        Ok(next)
    }

    fn walked(mut now: Membership, areas: &WantedAreas) -> Membership {
        while let Some(next) = now.rebalanced(areas) {
            now.may_follow(&next).unwrap();
            now = next;
        }
        now
    }

    fn holders(now: &Membership, prefix: &str) -> BTreeSet<RegionId> {
        let policy = now.policies.of(prefix).unwrap();
        let area = &now.shards.jurisdictions[&policy.jurisdiction];
        area.placements().flat_map(|it| it.regions()).cloned().collect()
    }

    #[test]
    fn a_fence_that_is_not_mentioned_is_kept() {
        for copies in [None, Some(1)] {
            let fenced = rule("pii:", &["a", "b"], copies);
            let (now, mut areas) = federation(&[fenced]);
            for copies in [None, Some(1), Some(2), Some(4)] {
                let lifted = rule("pii:", &[], copies);
                let told = set(&now, &mut areas, &lifted).unwrap_err();
                assert!(told.contains("may not be in c") || copies.is_none(), "{told}");
            }
            let longer = StatePolicy {
                ttl_ms: Some(60_000),
                ..rule("pii:", &["a", "b"], Some(2))
            };
            let next = walked(set(&now, &mut areas, &longer).unwrap(), &areas);
            assert_eq!(holders(&next, "pii:"), ["a", "b"].map(region).into());
        }
    }

    #[test]
    fn slots_leave_regions_that_are_not_named_any_more_and_law_follows_them() {
        let (now, mut areas) = federation(&[rule("s:", &[], Some(2))]);
        let narrow = rule("s:", &["a", "b"], Some(2));
        let next = walked(set(&now, &mut areas, &narrow).unwrap(), &areas);
        assert_eq!(holders(&next, "s:"), ["a", "b"].map(region).into());
        let area = &next.shards.jurisdictions[&shards::area_of("s:")];
        assert_eq!(area.legal, ["a", "b"].map(region).into());
    }

    #[test]
    fn a_region_that_was_put_out_holds_no_rule_up() {
        let (now, mut areas) = federation(&[rule("s:", &[], Some(2))]);
        let out = ReplicaId::new(4);
        let now = walked(now.evicting(out), &areas);
        assert_eq!(holders(&now, "s:"), ["a", "b", "c"].map(region).into());
        let tenant = StatePolicy { ttl_ms: Some(60_000), ..rule("s:", &[], Some(3)) };
        let next = walked(set(&now, &mut areas, &tenant).unwrap(), &areas);
        assert_eq!(holders(&next, "s:"), ["a", "b", "c"].map(region).into());
    }

    #[test]
    fn what_decides_slots_stays_when_nothing_is_said_about_it() {
        let by_tenant =
            StatePolicy { shard_by: Some(ShardBy::Tenant), ..rule("t:", &[], Some(2)) };
        let (now, mut areas) = federation(&[by_tenant]);
        let next = set(&now, &mut areas, &rule("t:", &[], Some(3))).unwrap();
        let told = shown(&next, &areas).items.pop().unwrap();
        assert_eq!((told.copies, told.regions), (Some(3), Vec::new()), "as it was said");
        let by = next.policies.of("t:").unwrap().shard_by;
        assert_eq!(shards::shown_by(by), ShardBy::Tenant);
    }
}
