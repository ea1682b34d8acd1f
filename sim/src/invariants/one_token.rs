//! TOK-1: in the engine's history, a token leads to one reservation, and records that were
//! created with one token all belong to that reservation.

use std::collections::BTreeMap;

use dwcp_controller::ownership::ClientToken;
use dwcp_types::ReservationId;

use super::Statement;
use crate::world::World;

pub(super) const STATEMENT: Statement =
    Statement { id: "TOK-1", statement: "a token leads to one VM, once" };

#[derive(Debug, Default)]
pub(super) struct OneToken {
    read: usize,
    led_to: BTreeMap<ClientToken, ReservationId>,
}

impl OneToken {
    pub(super) fn check(&mut self, world: &World) -> Option<String> {
        for (key, value) in world.engine.written.iter().skip(self.read) {
            let Some(record) = value.as_ref().and_then(|value| value.vm()) else {
                continue;
            };
            let (token, reservation) = (&record.token, &record.reservation);
            let first =
                self.led_to.entry(token.clone()).or_insert_with(|| reservation.clone());
            if first != reservation {
                return Some(format!(
                    "{token} led to {first} and then to {reservation} at {key}"
                ));
            }
        }
        self.read = world.engine.written.len();
        None
    }
}
