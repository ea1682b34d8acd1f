//! Answers operators who ask for incidents or change them.

use std::sync::Arc;

use dwcp_api::monitoring::{
    Acknowledge, AcknowledgeIncident, Assign, AssignIncident, CreateIncident,
    GetIncident, IncidentFilter, IncidentList, IncidentParams, IncidentReply,
    ListIncidents, ReportIncident, Resolve, ResolveIncident,
};
use dwcp_api::{ApiError, Routes};
use dwcp_monitor::incident::{Draft, Incident, IncidentId, Refused};
use dwcp_types::RegionId;

use super::{Incidents, NotChanged};
use crate::bind::{bind, bind_by};
use crate::public_api::admit;
use crate::region_records::no_such_region;

/// The operator's routes.
pub(super) fn routes(api: &Arc<Incidents>) -> Routes {
    let routes = bind! { api, admit,
        ListIncidents => list;
        GetIncident => show;
    };
    let routes = bind_by::<CreateIncident, _, _, _>(
        routes,
        (api, admit),
        |api, by, _, body| async move { api.create(&by, body).await },
    );
    let routes = bind_by::<AcknowledgeIncident, _, _, _>(
        routes,
        (api, admit),
        |api, by, of, body| async move { api.acknowledge(&by, of.incident, body).await },
    );
    let routes = bind_by::<AssignIncident, _, _, _>(
        routes,
        (api, admit),
        |api, by, of, body| async move { api.assign(&by, of.incident, body).await },
    );
    bind_by::<ResolveIncident, _, _, _>(
        routes,
        (api, admit),
        |api, by, of, body| async move { api.resolve(&by, of.incident, body).await },
    )
}

impl Incidents {
    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn list(
        &self,
        asked: IncidentFilter,
        (): (),
    ) -> Result<IncidentList, ApiError> {
        let wanted = |it: &&Incident| {
            asked.status.is_none_or(|status| it.status == status)
                && (asked.region.is_none() || it.region == asked.region)
        };
        let items = self
            .board
            .look(|book| book.incidents.values().rev().filter(wanted).cloned().collect());
        Ok(IncidentList {
            items,
            answered_by: self.region.clone(),
            evaluated_by: self.board.duty().map(|duty| duty.region),
            age_ms: self.age_ms(),
        })
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn show(&self, of: IncidentParams, (): ()) -> Result<IncidentReply, ApiError> {
        self.reply(of.incident)
    }

    async fn create(
        &self,
        by: &str,
        body: ReportIncident,
    ) -> Result<IncidentReply, ApiError> {
        self.known(body.region.as_ref())?;
        let draft = Draft {
            region: body.region,
            severity: body.severity,
            category: body.category,
            title: body.title,
            description: body.description,
        };
        let (sinks, now) = (&self.notifier.sinks, self.clock.now());
        let id = self.change(None, |book| {
            let id = book.report(&draft, by, sinks, now)?;
            Ok((id, book.incidents.get(&id).cloned()))
        });
        let (id, opened) = id.await.map_err(|error| error.told())?;
        if let Some(incident) = opened {
            self.metrics.incident(&incident);
        }
        self.reply(id)
    }

    async fn acknowledge(
        &self,
        caller: &str,
        id: IncidentId,
        body: Acknowledge,
    ) -> Result<IncidentReply, ApiError> {
        let (sinks, now) = (&self.notifier.sinks, self.clock.now());
        let by = body.by.unwrap_or_else(|| caller.to_owned());
        let done = self.change(None, |book| book.acknowledge(id, &by, sinks, now));
        done.await.map_err(|error| error.told())?;
        self.reply(id)
    }

    async fn assign(
        &self,
        caller: &str,
        id: IncidentId,
        body: Assign,
    ) -> Result<IncidentReply, ApiError> {
        let now = self.clock.now();
        let done = self.change(None, |book| book.assign(id, &body.to, caller, now));
        done.await.map_err(|error| error.told())?;
        self.reply(id)
    }

    async fn resolve(
        &self,
        caller: &str,
        id: IncidentId,
        body: Resolve,
    ) -> Result<IncidentReply, ApiError> {
        let (sinks, now) = (self.notifier.sinks.as_slice(), self.clock.now());
        let why = (body.root_cause.as_str(), body.resolution.as_str());
        let done = self.change(None, |book| book.resolve(id, why, caller, (sinks, now)));
        done.await.map_err(|error| error.told())?;
        self.reply(id)
    }

    fn reply(&self, id: IncidentId) -> Result<IncidentReply, ApiError> {
        let found = self.board.look(|book| book.incidents.get(&id).cloned());
        let unknown = || NotChanged::Refused(Refused::NoSuchIncident { id }).told();
        Ok(IncidentReply {
            incident: found.ok_or_else(unknown)?,
            answered_by: self.region.clone(),
            age_ms: self.age_ms(),
        })
    }

    pub(super) fn known(&self, region: Option<&RegionId>) -> Result<(), ApiError> {
        let mirror = &self.senses.inventory.mirror;
        match region {
            Some(region) if mirror.region(region).is_none() => {
                Err(no_such_region(region))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn age_ms(&self) -> Option<u64> {
        self.board.age().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }
}
