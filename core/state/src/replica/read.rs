//! Reads: what this replica has, and how old it may be.

use std::time::Duration;

use crate::clock::ReplicaId;
use crate::conflict::resolve;
use crate::crdt::{Reading, Value};
use crate::frontier::Frontier;
use crate::level::Level;
use crate::policy::Conflict;
use crate::replica::Replica;
use crate::replica::command::{Answer, Listed, Read};
use crate::replica::config::Sabotage;
use crate::replica::desk::Effect;
use crate::replica::input::{Key, Op, PAGE_ITEMS_MAX, Request, Token};
use crate::replica::refusal::Refusal;
use crate::replica::serve::Target;
use crate::replica::store::Entry;
use crate::replica::view::Mask;
use crate::replica::wait::Scope;

impl Replica {
    /// Reads a key at its level.
    pub(super) fn get(
        &mut self,
        request: &Request,
        deadline: Duration,
    ) -> Result<(), Refusal> {
        let key = Key::clone(request.op.key());
        let target = self.target(&key, request.level)?;
        let scope = match target.level {
            Level::Eventual => None,
            // A session that this replica keeps up with is as good as its region.
            Level::Local if request.session.is_some() || self.view.home().need() == 1 => {
                None
            }
            Level::Local => Some(Scope::Region),
            Level::Quorum | Level::Strong => Some(Scope::Regions),
        };
        match scope {
            None => {
                self.get_here(request, &key, target);
                Ok(())
            }
            Some(scope) => self.begin_read(request, target, scope, deadline),
        }
    }

    fn get_here(&mut self, request: &Request, key: &Key, target: Target) {
        let entry = self.store.get(key);
        let (batch, own_batch) =
            entry.map_or((0, 0), |entry| (entry.batch, entry.own_batch));
        let read = Read {
            reading: entry.and_then(|entry| self.visible(entry)),
            level: target.level,
            staleness: self.staleness(key),
            token: self.token(request.session.as_ref(), entry),
        };
        // What this replica alone has may be lost in a crash until it is durable, and an answer
        // must not show what then never was. At level local nothing may be lost that was shown.
        let batch = if target.level == Level::Eventual { own_batch } else { batch };
        let reply = self.show(request, Answer::Read(read));
        if self.config.breaks(Sabotage::ShowsUndurable) {
            return self.run(reply);
        }
        self.run_after(batch, reply);
    }

    fn show(&self, request: &Request, answer: Answer) -> Effect {
        let (request, taken_at) = (request.id, self.now.mono);
        Effect::Show { request, answer: Box::new(answer), taken_at }
    }

    /// What a reader sees of an entry: nothing when it shows nothing or its life is over.
    pub(super) fn visible(&self, entry: &Entry) -> Option<Reading> {
        if entry.value.is_bottom() || self.is_over(entry) {
            return None;
        }
        Some(self.reading(entry.policy, &entry.value))
    }

    /// What a value shows: siblings by the rule of its policy, where that has one.
    pub(super) fn reading(&self, policy: u16, value: &Value) -> Reading {
        let reading = value.read();
        let conflict = self.view.policy_at(policy).map(|policy| &policy.conflict);
        let Some(Conflict::Merge(rule)) = conflict else { return reading };
        let Reading::Siblings { values, seen } = reading else { return reading };
        // A membership that names a rule which is not known here is not followed.
        let rule = self.config.rules.get(rule);
        let merged = rule.and_then(|rule| resolve(rule, &values));
        Reading::Siblings { values: merged.map_or(values, |one| vec![one]), seen }
    }

    /// Whether the life of a value is over.
    pub(super) fn is_over(&self, entry: &Entry) -> bool {
        let end = self.end_of_life(entry.policy, entry.stamp);
        end.is_some_and(|end| end <= self.now.wall)
    }

    /// What a session has seen when it is shown an entry.
    pub(super) fn token(&self, session: Option<&Token>, entry: Option<&Entry>) -> Token {
        let mut seen = self.seen_with(entry);
        if let Some(session) = session {
            seen.join(&session.0);
        }
        Token(seen)
    }

    /// The same for what is more than an entry of this replica.
    pub(super) fn token_with(&self, session: Option<&Token>, seen: &Frontier) -> Token {
        let mut token = self.token(session, None);
        token.0.join(seen);
        token
    }

    /// Everything that was written to a key longer ago than this is here.
    ///
    /// Each author of the key's regions has promised that nothing older than a stamp will come;
    /// the oldest of these promises counts.
    pub(super) fn staleness(&self, key: &str) -> Duration {
        let class =
            self.view.policy(key).and_then(|(place, _)| self.view.class_of(key, place));
        let holders =
            class.and_then(|class| self.view.at(class)).map_or(0, |class| class.holders);
        self.staleness_of(holders)
    }

    fn staleness_of(&self, replicas: Mask) -> Duration {
        let age = |replica: ReplicaId| {
            let closed =
                self.peers.get(&replica).map(|peer| peer.closed).unwrap_or_default();
            self.now.wall.since(closed.time())
        };
        let writers = self.view.members(replicas).filter(|replica| {
            *replica != self.me.replica && self.view.membership.is_active(*replica)
        });
        writers.map(age).max().unwrap_or_default()
    }

    /// The keys under a prefix that are here.
    pub(super) fn list(&mut self, request: &Request) -> Result<(), Refusal> {
        let Op::List { prefix, after, limit } = &request.op else { return Ok(()) };
        if request.level.is_some_and(|level| level != Level::Eventual) {
            return Err(Refusal::OutOfRange {
                what: "the level of a list",
                range: "eventual",
            });
        }
        let limit = (*limit).clamp(1, PAGE_ITEMS_MAX);
        let from = after.as_ref().filter(|after| **after >= *prefix).unwrap_or(prefix);
        let mut items = Vec::new();
        let mut undurable = 0;
        let mut seen = self.seen_with(None);
        for (key, entry) in self.store.from(from) {
            if !key.starts_with(&**prefix) || items.len() > limit {
                break;
            }
            if after.as_ref() == Some(key) {
                continue;
            }
            let Some(reading) = self.visible(entry) else { continue };
            undurable = undurable.max(entry.own_batch);
            seen.join(&self.seen_with(Some(entry)));
            items.push((Key::clone(key), reading));
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let all = self.view.members(Mask::MAX).filter_map(|id| self.view.bit(id));
        let staleness = self.staleness_of(all.fold(0, |mask, bit| mask | bit));
        let token = self.token_with(request.session.as_ref(), &seen);
        let listed = Answer::Listed(Listed { items, more, staleness, token });
        let reply = self.show(request, listed);
        self.run_after(undurable, reply);
        Ok(())
    }
}
