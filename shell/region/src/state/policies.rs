//! The rules of key prefixes, and the rights that are minted under them: what of replicated
//! state needs the strong engine first.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::state::{Eviction, StateKind, StateLevel, StatePolicies, StatePolicy};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_runtime::strong::{Compare, Op, OpId, StrongEngine, Txn, TxnOutcome};
use dwcp_state::policy::Plane;
use dwcp_state::shard::{Jurisdiction, JurisdictionName, ShardMap};
use dwcp_state::{Actor, Kind, Level, Membership, MintId, Policies, Policy, Update};
use dwcp_types::RegionId;
use serde::{Deserialize, Serialize};

use super::membership::{self, ChangeError};
use super::translate;
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
    pub(crate) async fn set(&self, rule: &StatePolicy) -> Result<Membership, ApiError> {
        let now = membership::now(self.engine.as_ref())
            .await
            .map_err(|error| not_changed(&error))?;
        known(&now, rule)?;
        let step = |now: &Membership| {
            let next = with_rule(now, rule);
            let differs = next.policies != now.policies || next.shards != now.shards;
            differs.then_some(next)
        };
        membership::change(self.engine.as_ref(), step)
            .await
            .map_err(|error| not_changed(&error))
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
        let next = membership::change(self.engine.as_ref(), step)
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

/// Refuses a rule about regions that have no replica.
fn known(now: &Membership, rule: &StatePolicy) -> Result<(), ApiError> {
    let known: Vec<&RegionId> =
        now.members.values().map(|member| &member.region).collect();
    if let Some(unknown) = rule.regions.iter().find(|region| !known.contains(region)) {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        let message = format!("region {unknown} has no replica");
        return Err(ApiError::new(ErrorCode::Invalid, message)
            .with_remedy(format!("name some of {}", known.join(", "))));
    }
    Ok(())
}

/// The next epoch, with one rule set.
fn with_rule(now: &Membership, rule: &StatePolicy) -> Membership {
    let mut next = now.clone();
    next.epoch += 1;
    let policy = policy(
        &mut next.shards,
        (translate::kind(rule.kind), translate::level(rule.level)),
        &rule.regions,
        rule.ttl_ms.map(Duration::from_millis),
    );
    let rows =
        now.policies.iter().map(|(prefix, policy)| (prefix.clone(), policy.clone()));
    let rows = rows.filter(|(prefix, _)| **prefix != *rule.prefix);
    let added = (Arc::from(rule.prefix.as_str()), policy);
    next.policies = Policies::new(rows.chain([added]));
    next
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
    (kind, level): (Option<Kind>, Level),
    regions: &[RegionId],
    ttl: Option<Duration>,
) -> Policy {
    let jurisdiction = jurisdiction_of(regions);
    if !regions.is_empty() {
        let legal = Jurisdiction::everywhere(regions.iter().cloned());
        shards.jurisdictions.entry(jurisdiction.clone()).or_insert(legal);
    }
    let Some(kind) = kind else {
        // The kind says nothing about records of the engine; bytes they are in any case.
        return Policy::of(Kind::Register, Level::Strong, jurisdiction);
    };
    Policy { ttl, ..Policy::of(kind, level, jurisdiction) }
}

/// Every rule as the API has it.
pub(crate) fn shown(membership: &Membership) -> StatePolicies {
    let item = |(prefix, policy): (&Arc<str>, &Policy)| {
        let engine = policy.plane == Plane::Engine;
        let everywhere = policy.jurisdiction.as_str() == EVERYWHERE;
        let area = membership.shards.jurisdictions.get(&policy.jurisdiction);
        let legal = area.filter(|_| !everywhere && !engine);
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
            regions: legal
                .map(|area| area.legal.iter().cloned().collect())
                .unwrap_or_default(),
            ttl_ms: policy.ttl.and_then(|ttl| u64::try_from(ttl.as_millis()).ok()),
        }
    };
    StatePolicies { items: membership.policies.iter().map(item).collect() }
}
