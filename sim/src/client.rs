//! A client: places, stops, starts and deletes VMs of a few names, one wish at a time, and
//! sends a wish that was not answered again, with the same token, to any coordinator.

use std::collections::BTreeMap;
use std::time::Duration;

use dwcp_controller::ownership::ClientToken;
use dwcp_types::{
    Affinity, AffinityMode, Constraints, Gib, GroupId, Hardness, Mib, OnRegionLoss,
    PlacementRequest, Power, ReservationId, Scope, TenantId, Tier, Timestamp, VmId,
    VmShape, VmType,
};

use crate::message::{Answer, Body, Node, Wish};
use crate::rng::Rng;

/// A wish is sent again after this long.
const SEND_AGAIN_AFTER: Duration = Duration::from_secs(6);
/// Names of VMs that each client uses over and over.
const NAMES: usize = 5;

#[derive(Debug)]
struct Open {
    op: u64,
    wish: Wish,
    name: VmId,
    sent_at: Timestamp,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    index: usize,
    coordinators: usize,
    rng: Rng,
    open: Option<Open>,
    placed: BTreeMap<VmId, Option<ReservationId>>,
    ops: u64,
    /// Most of its VMs are protected, and start elsewhere when their region is lost.
    pub(crate) guarded: bool,
}

impl Client {
    pub(crate) fn new(index: usize, coordinators: usize, rng: Rng) -> Self {
        let names = (0..NAMES).filter_map(|n| VmId::new(&format!("vm-{index}-{n}")).ok());
        let placed = names.map(|name| (name, None)).collect();
        Self { index, coordinators, rng, open: None, placed, ops: 0, guarded: false }
    }

    pub(crate) const fn is_idle(&self) -> bool {
        self.open.is_none()
    }

    pub(crate) fn handle(&mut self, body: &Body) {
        let Body::Answer { op, answer } = body else { return };
        let Some(open) = self.open.take_if(|open| open.op == *op) else { return };
        let deleted = matches!(open.wish, Wish::Power { wanted: Power::Deleted, .. });
        match answer {
            Answer::Placed(reservation) | Answer::NameTaken(reservation) => {
                self.placed.insert(open.name, Some(reservation.clone()));
            }
            Answer::Gone => {
                self.placed.insert(open.name, None);
            }
            Answer::Done if deleted => {
                self.placed.insert(open.name, None);
            }
            Answer::Refused | Answer::Done => {}
            Answer::Unsure => self.open = Some(open),
        }
    }

    /// Sends a wish again, or a new one while `busy`.
    pub(crate) fn tick(&mut self, now: Timestamp, busy: bool) -> Option<(Node, Body)> {
        if let Some(open) = &mut self.open {
            if now.since(open.sent_at) < SEND_AGAIN_AFTER {
                return None;
            }
            open.sent_at = now;
        } else if busy && self.rng.chance(5_000) {
            self.open = self.next_wish(now);
        }
        let open = self.open.as_ref().filter(|open| open.sent_at == now)?;
        let to = Node::Coordinator(self.rng.index(self.coordinators));
        Some((to, Body::Ask { op: open.op, wish: Box::new(open.wish.clone()) }))
    }

    fn next_wish(&mut self, now: Timestamp) -> Option<Open> {
        self.ops += 1;
        let (name, placed) = self.placed.iter().nth(self.rng.index(self.placed.len()))?;
        let (name, placed) = (name.clone(), placed.clone());
        let wish = match placed {
            None => {
                let token = format!("t{}-{}", self.index, self.ops);
                let token = ClientToken::new(&token).ok()?;
                let request = Box::new(self.request(&name)?);
                Wish::Place { token, request, preempt: self.rng.chance(6_667) }
            }
            Some(reservation) => {
                let all = [Power::Running, Power::Paused, Power::Stopped, Power::Deleted];
                let wanted = all[self.rng.index(all.len())];
                Wish::Power { vm: name.clone(), reservation, wanted }
            }
        };
        Some(Open { op: self.ops, wish, name, sent_at: now })
    }

    /// One in three belongs to a group whose members must not share a host, one in six to one
    /// whose members would rather be in one zone.
    fn request(&mut self, name: &VmId) -> Option<PlacementRequest> {
        let cpu = u32::try_from(self.rng.between(1, 4)).ok()?;
        let group = GroupId::new("apart").ok()?;
        let apart = Affinity {
            group,
            mode: AffinityMode::Apart,
            scope: Scope::Host,
            hardness: Hardness::Required,
        };
        let near = Affinity {
            group: GroupId::new("near").ok()?,
            mode: AffinityMode::Together,
            scope: Scope::Zone,
            hardness: Hardness::Preferred,
        };
        let affinity = match self.rng.index(6) {
            0 | 1 => vec![apart],
            2 => vec![near],
            _ => Vec::new(),
        };
        let tier = [Tier::Protected, Tier::Preemptible, Tier::Standard];
        let tier = match self.rng.index(6) {
            3 | 4 if self.guarded => Tier::Protected,
            chosen => tier.get(chosen).copied().unwrap_or_default(),
        };
        let on_region_loss = match tier {
            Tier::Protected if self.guarded => OnRegionLoss::RestartFromImage,
            Tier::Protected | Tier::Preemptible | Tier::Standard => {
                OnRegionLoss::StayDown
            }
        };
        Some(PlacementRequest {
            id: name.clone(),
            tenant: TenantId::new("tenant").ok()?,
            shape: VmShape {
                cpu,
                memory: Mib::new(u64::from(cpu) * 1024),
                storage: Gib::new(10),
                ..VmShape::default()
            },
            vm_type: VmType::Compute,
            constraints: Constraints { affinity, ..Constraints::default() },
            origins: Vec::new(),
            strategy: None,
            priority: u8::try_from(self.rng.between(1, 10)).ok()?,
            tier,
            on_region_loss,
            replica_max_age_s: None,
            labels: BTreeMap::new(),
        })
    }
}
