//! Recorded requests under the policy in force and under another.

use std::net::IpAddr;

use dwcp_api::routing::{REPLAY_GROUPS_MAX, ReplayReply, ReplayRequest, TrafficGroup};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_router::{Inputs, Key, Table, Traffic, replay};

use super::answers::{NOTE_LOAD, notes, service, unknown};
use super::inputs::Places;
use super::{Made, Router};

impl Router {
    /// Compares the policy in force with another over recorded requests.
    ///
    /// # Errors
    ///
    /// When there is no table yet, or a group comes from or asks for what is not there.
    pub fn replay(&self, asked: &ReplayRequest) -> Result<ReplayReply, ApiError> {
        if asked.groups.len() > REPLAY_GROUPS_MAX {
            let message = format!("{} groups of requests", asked.groups.len());
            let remedy = format!("send {REPLAY_GROUPS_MAX} at most");
            return Err(ApiError::new(ErrorCode::Invalid, message).with_remedy(remedy));
        }
        let made = self.table()?;
        let traffic = asked.groups.iter().map(|group| traffic(&made, group));
        let traffic = traffic.collect::<Result<Vec<_>, _>>()?;
        let inputs = made.table.inputs();
        let mut other = inputs.clone();
        for service in &mut other.services {
            service.algorithm = asked.algorithm;
            service.weights = None;
        }
        let now = replay(&fresh(inputs.clone())?, &traffic);
        let then = replay(&fresh(other)?, &traffic);
        Ok(ReplayReply {
            answered_by: self.parts.region.clone(),
            now,
            algorithm: asked.algorithm,
            then,
            notes: notes(Some(&made), &[NOTE_LOAD]),
        })
    }
}

/// A table without a past.
fn fresh(inputs: Inputs) -> Result<Table, ApiError> {
    Table::build(inputs, 0, None).map_err(|problems| {
        let problem = problems.first().map(ToString::to_string).unwrap_or_default();
        ApiError::new(ErrorCode::Internal, format!("no table for a replay: {problem}"))
    })
}

fn traffic(made: &Made, group: &TrafficGroup) -> Result<Traffic, ApiError> {
    let key = Key {
        cell: cell(&made.places, &group.source)?,
        service: service(&made.table, group.service.as_ref())?,
        class: group.class,
        ..Key::default()
    };
    Ok(Traffic { key, requests: group.requests })
}

fn cell(places: &Places, source: &str) -> Result<u32, ApiError> {
    if let Ok(address) = source.parse::<IpAddr>() {
        return Ok(places.clients.find(address).0);
    }
    let zone = source.parse().ok().and_then(|zone| places.zones.get(&zone));
    let region = || source.parse().ok().and_then(|region| places.regions.get(&region));
    zone.or_else(region).copied().ok_or_else(|| {
        let zones = places.zones.keys().map(ToString::to_string);
        let regions = places.regions.keys().map(ToString::to_string);
        let known: Vec<_> = zones.chain(regions).collect();
        unknown("address, user zone or region", source, &known)
    })
}
