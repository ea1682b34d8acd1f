//! The strong plane as far as replicas need it: a chain of memberships, changed by an operator
//! who evicts and admits, and shown to each node when it happens to hear of it.
//!
//! The operator keeps the rules: one vote at a time, and only when everybody who stays has
//! settled. It also does what people would do about a notice: a replica whose disk went back in
//! time, or whose clock was far ahead and made stamps that nobody takes, is put out and admitted
//! again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dwcp_state::{Membership, ReplicaId, Settled};

use super::keys::{node_of, region_id, replica_id};

/// A clock that is further ahead than jumps and drift put it.
const FAR_AHEAD: Duration = Duration::from_secs(60);

/// What is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A node votes no more.
    Evict(usize),
    /// It is admitted, and receives.
    Admit(usize),
    /// It votes.
    Activate(usize),
}

impl Step {
    /// Of which node.
    const fn node(self) -> usize {
        match self {
            Self::Evict(node) | Self::Admit(node) | Self::Activate(node) => node,
        }
    }
}

/// The chain and what is to come.
#[derive(Debug)]
pub(super) struct Strong {
    newest: Arc<Membership>,
    steps: VecDeque<Step>,
    settled: BTreeMap<ReplicaId, Settled>,
    /// The region of each node.
    regions: Vec<usize>,
    /// Every eviction there was: the node and the admission that it ended.
    evicted: BTreeSet<(usize, u16)>,
    /// Nodes that stay out for now.
    banned: BTreeSet<usize>,
    /// Nodes whose clocks somebody found far ahead.
    far_ahead: BTreeSet<usize>,
}

impl Strong {
    pub(super) fn new(first: Membership, regions: Vec<usize>) -> Self {
        Self {
            newest: Arc::new(first),
            steps: VecDeque::new(),
            settled: BTreeMap::new(),
            regions,
            evicted: BTreeSet::new(),
            banned: BTreeSet::new(),
            far_ahead: BTreeSet::new(),
        }
    }

    /// The newest membership.
    pub(super) const fn newest(&self) -> &Arc<Membership> {
        &self.newest
    }

    /// Whether an admission of a node was ended.
    pub(super) fn has_ended(&self, node: usize, admission: u32) -> bool {
        let admission = u16::try_from(admission).unwrap_or(u16::MAX);
        self.evicted.contains(&(node, admission))
    }

    /// Whether any admission of a node was ever ended.
    pub(super) fn was_evicted(&self, node: usize) -> bool {
        self.evicted.range((node, 0)..=(node, u16::MAX)).next().is_some()
    }

    /// Whether there is nothing to change.
    pub(super) fn is_idle(&self) -> bool {
        self.steps.is_empty()
    }

    /// Puts nodes out. Not those without which a vote would have nobody left: the last two
    /// regions, or the last region inside the fence.
    pub(super) fn evict(&mut self, nodes: &[usize]) -> Vec<usize> {
        let mut put_out = Vec::new();
        for node in nodes {
            if self.is_dispensable(*node) {
                self.banned.insert(*node);
                self.steps.push_back(Step::Evict(*node));
                put_out.push(*node);
            }
        }
        put_out
    }

    fn is_dispensable(&self, node: usize) -> bool {
        if self.banned.contains(&node) {
            return false;
        }
        let left = self
            .regions
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != node && !self.banned.contains(other));
        let left: BTreeSet<usize> = left.map(|(_, region)| *region).collect();
        let inside =
            left.iter().filter(|region| super::keys::is_inside(**region)).count();
        left.len() >= 2 && inside >= 1
    }

    /// Lets nodes in again.
    pub(super) fn admit(&mut self, nodes: &[usize]) {
        for node in nodes {
            if self.banned.remove(node) {
                self.steps.extend([Step::Admit(*node), Step::Activate(*node)]);
            }
        }
    }

    /// Puts a node out and lets it in again, unless that is under way.
    pub(super) fn renew(&mut self, node: usize) {
        let under_way = self.steps.iter().any(|step| step.node() == node);
        if under_way {
            return;
        }
        let put_out = self.evict(&[node]);
        self.admit(&put_out);
    }

    /// Somebody says that a node's clock is ahead. Little passes by itself; what is far is for
    /// people, who get to it when faults are over and the clock is set.
    pub(super) fn skewed(&mut self, node: usize, ahead: Duration) {
        if ahead > FAR_AHEAD {
            self.far_ahead.insert(node);
        }
    }

    /// Everybody who is out is let in, and whose clock was far ahead begins again.
    pub(super) fn admit_all(&mut self) {
        for node in std::mem::take(&mut self.far_ahead) {
            self.renew(node);
        }
        let banned: Vec<usize> = self.banned.iter().copied().collect();
        self.admit(&banned);
    }

    /// A replica says how far it has settled.
    pub(super) fn settled(&mut self, node: usize, settled: Settled) {
        self.settled.insert(replica_id(node), settled);
    }

    /// Makes the first change whose time has come; the new membership. What is to be done with
    /// one node is done in order, and may overtake what another node keeps from happening.
    pub(super) fn advance(&mut self) -> Option<Arc<Membership>> {
        let mut waits = BTreeSet::new();
        let place = self.steps.iter().position(|step| {
            let first = waits.insert(step.node());
            first
                && self.leaves_enough(*step)
                && self.is_likely(*step)
                && self.next(*step).is_some()
        })?;
        let step = self.steps.remove(place)?;
        let next = self.next(step)?;
        if let Step::Evict(node) = step {
            let admission = self.newest.members.get(&replica_id(node));
            self.evicted.extend(admission.map(|member| (node, member.admission)));
        }
        self.newest = Arc::new(next);
        Some(Arc::clone(&self.newest))
    }

    /// Whether enough vote after a step: what is all of a key's holders is not put out at once.
    fn leaves_enough(&self, step: Step) -> bool {
        let Step::Evict(node) = step else { return true };
        let voters = self.newest.members.keys().filter(|it| self.newest.is_active(**it));
        let stay = voters.map(|replica| node_of(*replica)).filter(|it| *it != node);
        let regions: BTreeSet<usize> = stay.map(|node| self.regions[node]).collect();
        let inside = |region: &&usize| super::keys::is_inside(**region);
        regions.len() >= 2 && regions.iter().any(|region| inside(&region))
    }

    /// Whether everybody who stays and votes has settled, with who goes or without. Cheaper than
    /// all of the rules, and mostly the reason to wait.
    fn is_likely(&self, step: Step) -> bool {
        let epoch = self.newest.epoch;
        let goes = match step {
            Step::Evict(node) => Some(replica_id(node)),
            Step::Admit(_) | Step::Activate(_) => None,
        };
        let voters = self.newest.members.keys().filter(|it| self.newest.is_active(**it));
        let mut stay = voters.filter(|replica| Some(**replica) != goes);
        stay.all(|replica| {
            let settled = self.settled.get(replica).copied().unwrap_or_default();
            let but = settled.but.filter(|(of, _)| *of == epoch).map(|(_, one)| one);
            settled.epoch >= epoch || (but.is_some() && but == goes)
        })
    }

    /// The membership after a step, if the rules allow it now.
    fn next(&self, step: Step) -> Option<Membership> {
        let next = match step {
            Step::Evict(node) => self.newest.evicting(replica_id(node)),
            Step::Admit(node) => {
                self.newest.admitting(replica_id(node), region_id(self.regions[node]))
            }
            Step::Activate(node) => self.newest.activating(replica_id(node)),
        };
        self.newest.ready_for(&next, &self.settled).ok()?;
        Some(next)
    }

    /// Whether a node is a member that votes.
    pub(super) fn is_active(&self, node: usize) -> bool {
        self.newest.is_active(replica_id(node))
    }

    /// The nodes that vote in a membership, by region.
    pub(super) fn voters(&self, membership: &Membership) -> BTreeMap<usize, Vec<usize>> {
        let mut voters = BTreeMap::<usize, Vec<usize>>::new();
        for replica in membership.members.keys() {
            if membership.is_active(*replica) {
                let node = node_of(*replica);
                voters.entry(self.regions[node]).or_default().push(node);
            }
        }
        voters
    }
}
