//! What an operator is told: the settings in use, where a request would go, and the ways.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dwcp_api::public::RegionParams;
use dwcp_api::routing::{
    ConfigureRouting, Endpoint, EndpointItem, LatencyRow, RoutingAnswer, RoutingLatency,
    RoutingQuestion, RoutingReply, ServiceItem, TableItem,
};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_router::{
    Class, Key, Service, Standing, Table, client_number, decide, decide_for, explain,
    ways,
};
use dwcp_types::{HealthState, RegionId, ServiceId, Timestamp};

use super::inputs::{self, NOWHERE, Places};
use super::{Made, Router};

/// Names that a refusal lists.
const LISTED_MAX: usize = 16;

const NOTE_STATED: &str = "round trips are those of `network_latency` and `user_zones` in \
     federation.yaml, each trusted by half and its distance by the other half";
pub(super) const NOTE_LOAD: &str = "a region's load is the share of its CPU or bandwidth that is reserved \
     by VMs: what requests take is not counted yet";
const NOTE_NAMES: &str = "the name server of this region tells clients the same, by the `hosts` of \
     services in federation.yaml; it has no proxy (`proxy_endpoint`)";
const NOTE_PROXY: &str = "the proxy of this region brings clients there, by the `hosts` and `domains` \
     of services in federation.yaml; it has no name server (`dns_endpoint`)";
const NOTE_BOTH: &str = "the name server of this region tells clients the same, and its proxy brings \
     them there, by the `hosts` and `domains` of services in federation.yaml";
const NOTE_PLANES: &str = "nothing answers clients here: this region has no name server (`routing.dns` \
     and its `dns_endpoint` in federation.yaml) and no proxy (`proxy_endpoint`)";

/// A client, as a decision knows it.
struct Client {
    cell: u32,
    number: u64,
    told: String,
}

impl Router {
    /// How requests are routed.
    #[must_use]
    pub fn reply(&self) -> RoutingReply {
        let (parts, settings) = (&self.parts, self.settings());
        let items = parts.inventory.regions();
        let endpoints = items.iter().map(|item| {
            let id = &item.region.id;
            EndpointItem {
                region: id.clone(),
                endpoint: self.endpoint(id),
                capacity: inputs::capacity(item, parts, &settings),
                set_live: settings.endpoints.contains_key(id),
            }
        });
        let made = self.made.borrow().clone();
        let config = &parts.config;
        RoutingReply {
            answered_by: parts.region.clone(),
            algorithm: settings.algorithm.unwrap_or(config.algorithm),
            weights: config.weights.filter(|_| settings.algorithm.is_none()),
            chosen_live: settings.algorithm.is_some(),
            services: inputs::services(parts, &settings).iter().map(item).collect(),
            endpoints: endpoints.collect(),
            notes: self.notes(made.as_deref()),
            table: made.map(|made| self.table_item(&made)),
            refused: self.refused.read().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// What to know of what an operator is told.
    fn notes(&self, made: Option<&Made>) -> Vec<String> {
        let mut notes = notes(made, &[NOTE_LOAD, self.note_of_planes()]);
        let atlas = self.parts.atlas.as_ref();
        notes.extend(atlas.map(|file| file.note(self.clock().now())));
        notes
    }

    /// Who tells clients.
    const fn note_of_planes(&self) -> &'static str {
        match self.parts.planes {
            (true, true) => NOTE_BOTH,
            (true, false) => NOTE_NAMES,
            (false, true) => NOTE_PROXY,
            (false, false) => NOTE_PLANES,
        }
    }

    fn table_item(&self, made: &Made) -> TableItem {
        TableItem {
            generation: made.table.generation(),
            age_ms: self.age_ms(made),
            answers: u64::try_from(made.table.len()).unwrap_or(u64::MAX),
            took_us: u64::try_from(made.took.as_micros()).unwrap_or(u64::MAX),
        }
    }

    fn age_ms(&self, made: &Made) -> u64 {
        let age = self.clock().monotonic().saturating_sub(made.at);
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }

    /// Chooses how regions are ranked (O4).
    ///
    /// # Errors
    ///
    /// When the strong engine does not answer.
    pub async fn configure(
        &self,
        asked: ConfigureRouting,
    ) -> Result<RoutingReply, ApiError> {
        self.change(|settings| settings.algorithm = asked.algorithm).await?;
        Ok(self.reply())
    }

    /// Says where a region answers.
    ///
    /// # Errors
    ///
    /// When there is no such region, the endpoint makes no sense, or the strong engine does not
    /// answer.
    pub async fn set_endpoint(
        &self,
        params: &RegionParams,
        endpoint: Endpoint,
    ) -> Result<RoutingReply, ApiError> {
        let region = &params.region;
        if self.parts.inventory.mirror.region(region).is_none() {
            return Err(unknown("region", region.as_str(), &self.region_names()));
        }
        check(&endpoint)?;
        self.change(|settings| {
            settings.endpoints.insert(region.clone(), endpoint.clone());
        })
        .await?;
        Ok(self.reply())
    }

    fn region_names(&self) -> Vec<String> {
        let records = self.parts.inventory.mirror.regions();
        records.iter().map(|record| record.region.id.to_string()).collect()
    }

    pub(super) fn endpoint(&self, region: &RegionId) -> Option<Endpoint> {
        let live = self.settings().endpoints.get(region).cloned();
        live.or_else(|| {
            let front = inputs::front(&self.parts, region)?;
            Some(Endpoint {
                ip: front.ip,
                ipv6: front.ipv6,
                port: front.port,
                capacity: front.capacity,
                weight: front.weight,
            })
        })
    }

    pub(super) fn table(&self) -> Result<Arc<Made>, ApiError> {
        let made = self.made.borrow().clone();
        made.ok_or_else(|| {
            let refused = self.refused.read().unwrap_or_else(PoisonError::into_inner);
            let message = match refused.first() {
                Some(problem) => format!("there is no routing table: {problem}"),
                None => "there is no routing table yet".to_owned(),
            };
            ApiError::new(ErrorCode::Unavailable, message)
                .with_remedy("try again in a second; `routing config show` says more")
        })
    }

    /// Where a request would go, and why.
    ///
    /// # Errors
    ///
    /// When there is no table yet, or the question names what is not there.
    pub fn explain(&self, asked: &RoutingQuestion) -> Result<RoutingAnswer, ApiError> {
        let made = self.table()?;
        let table = &made.table;
        let client = client(&made, asked, self.clock().now())?;
        let key = Key {
            cell: client.cell,
            service: service(table, asked.service.as_ref())?,
            class: asked.class,
            client: client.number,
            request: client.number,
        };
        let standing = self.standing(table, asked)?;
        let start = self.clock().monotonic();
        let decision = match asked.requirement {
            Some(wanted) => decide_for(table, standing, &key, wanted),
            None => decide(table, standing, &key),
        };
        let took = self.clock().monotonic().saturating_sub(start);
        let chosen = decision.region_id(table);
        let explanation = explain(table, standing, &key, asked.requirement);
        let explanation = explanation.ok_or_else(|| {
            ApiError::new(ErrorCode::Internal, "the table has no such answer")
        })?;
        self.parts.metrics.routed(explanation.algorithm.as_str(), took);
        Ok(RoutingAnswer {
            answered_by: self.parts.region.clone(),
            table_age_ms: self.age_ms(&made),
            client: client.told,
            endpoint: chosen.and_then(|region| self.endpoint(region)),
            explanation,
            decide_ns: nanos(took),
            notes: self.notes(Some(&made)),
        })
    }

    /// Who is up, without those that the question takes away.
    fn standing(
        &self,
        table: &Table,
        asked: &RoutingQuestion,
    ) -> Result<Standing, ApiError> {
        let mut standing = self.standing_now(table);
        for region in &asked.without {
            let found = table.region_ix(region);
            let found = found.ok_or_else(|| {
                unknown("region", region.as_str(), &self.region_names())
            })?;
            standing = standing.without(found);
        }
        Ok(standing)
    }

    /// Who is up: all but those that fell ill since the table was made.
    pub(super) fn standing_now(&self, table: &Table) -> Standing {
        let mut standing = Standing::ALL;
        let well = |state| matches!(state, HealthState::Healthy | HealthState::Degraded);
        for site in &table.inputs().sites {
            let now = self.parts.inventory.fleet.health(&site.id).state;
            if well(site.health.value.state)
                && !well(now)
                && let Some(found) = table.region_ix(&site.id)
            {
                standing = standing.without(found);
            }
        }
        standing
    }

    /// The ways from every region and user zone to every region.
    ///
    /// # Errors
    ///
    /// When there is no table yet.
    pub fn latency(&self) -> Result<RoutingLatency, ApiError> {
        let made = self.table()?;
        let row = |from: &str, is_region: bool, cell: u32| {
            let to = ways(&made.table, cell).unwrap_or_default();
            LatencyRow { from: from.to_owned(), is_region, to: to.into_iter().collect() }
        };
        let regions = made.places.regions.iter();
        let zones = made.places.zones.iter();
        let rows = regions
            .map(|(id, cell)| row(id.as_str(), true, *cell))
            .chain(zones.map(|(id, cell)| row(id.as_str(), false, *cell)));
        Ok(RoutingLatency {
            answered_by: self.parts.region.clone(),
            rows: rows.collect(),
            notes: notes(Some(&made), &[]),
        })
    }
}

/// What to know of an answer: where its round trips come from, and whatever else.
pub(super) fn notes(made: Option<&Made>, others: &[&str]) -> Vec<String> {
    let trips = made.map(|made| trips_note(&made.table));
    let trips = trips.unwrap_or_else(|| NOTE_STATED.to_owned());
    let recalled = made.and_then(|made| {
        let age = made.table.inputs().now.since(made.recalled?);
        Some(format!(
            "the strong engine was not read since this daemon started: regions are those that \
             were known {} s before",
            age.as_secs()
        ))
    });
    let others = others.iter().map(|note| (*note).to_owned());
    recalled.into_iter().chain([trips]).chain(others).collect()
}

/// How many of the round trips between regions were measured.
fn trips_note(table: &Table) -> String {
    let inputs = table.inputs();
    let measured = inputs.links.iter().filter(|link| link.trip.at.is_some()).count();
    if measured == 0 {
        return NOTE_STATED.to_owned();
    }
    let pairs = inputs.sites.len() * inputs.sites.len().saturating_sub(1);
    format!(
        "{measured} of {pairs} round trips between regions are measured (95 of 100 in the \
         last two minutes were no longer); those of `user_zones`, and what was not measured lately, are of \
         federation.yaml, trusted by half and their distance by the other half"
    )
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn item(service: &Service) -> ServiceItem {
    let classes: BTreeMap<_, _> =
        Class::ALL.into_iter().zip(service.requirements).collect();
    ServiceItem {
        id: service.id.clone(),
        algorithm: service.algorithm,
        weights: service.weights.unwrap_or_else(|| service.algorithm.weights()),
        regions: service.regions.clone(),
        residency: service.residency.clone(),
        protocol: service.protocol,
        fail: service.fail,
        sticky: service.sticky,
        ttl_s: service.ttl_s,
        classes,
    }
}

/// Where a client is, by the one thing that is said of it.
fn client(
    made: &Made,
    asked: &RoutingQuestion,
    now: Timestamp,
) -> Result<Client, ApiError> {
    let places = &made.places;
    let said =
        [asked.source_ip.is_some(), asked.user_zone.is_some(), asked.region.is_some()];
    if said.iter().filter(|said| **said).count() > 1 {
        let message = "a client is at one place";
        return Err(ApiError::new(ErrorCode::Invalid, message)
            .with_remedy("say one of source_ip, user_zone and region"));
    }
    if let Some(zone) = &asked.user_zone {
        let names: Vec<_> = places.zones.keys().map(ToString::to_string).collect();
        let cell = places.zones.get(zone);
        let cell = cell.ok_or_else(|| unknown("user zone", zone.as_str(), &names))?;
        let told = format!("user zone {zone}");
        return Ok(Client { cell: *cell, number: 0, told });
    }
    if let Some(region) = &asked.region {
        let names: Vec<_> = places.regions.keys().map(ToString::to_string).collect();
        let cell = places.regions.get(region);
        let cell = cell.ok_or_else(|| unknown("region", region.as_str(), &names))?;
        return Ok(Client { cell: *cell, number: 0, told: format!("region {region}") });
    }
    let Some(address) = asked.source_ip else {
        let told = "nobody said where".to_owned();
        return Ok(Client { cell: NOWHERE, number: 0, told });
    };
    let (cell, told) = place(places, address, now);
    Ok(Client { cell, number: client_number(address), told })
}

/// The cell of an address, and where that was found: in the configuration, else in the file.
fn place(places: &Places, address: IpAddr, now: Timestamp) -> (u32, String) {
    if let Some((prefix, cell)) = places.network(address) {
        return (cell, format!("{address} in {prefix} of routing.clients"));
    }
    let atlas = places.atlas.as_ref();
    let found = atlas.and_then(|(atlas, first)| {
        let (cell, told) = atlas.find(address, now)?;
        Some((first.saturating_add(cell), told))
    });
    let nowhere = || {
        let told = "is in no network of routing.clients: its place is not known";
        (NOWHERE, format!("{address} {told}"))
    };
    found.unwrap_or_else(nowhere)
}

pub(super) fn service(table: &Table, id: Option<&ServiceId>) -> Result<u16, ApiError> {
    let Some(id) = id else { return Ok(0) };
    table.service(id).ok_or_else(|| {
        let services = table.inputs().services.iter();
        let names: Vec<_> = services.map(|service| service.id.to_string()).collect();
        unknown("service", id.as_str(), &names)
    })
}

pub(super) fn unknown(what: &str, name: &str, known: &[String]) -> ApiError {
    let listed = known.get(..LISTED_MAX.min(known.len())).unwrap_or_default().join(", ");
    let remedy = if listed.is_empty() {
        format!("there is no {what} at all; add one to federation.yaml")
    } else {
        format!("there is: {listed}")
    };
    ApiError::new(ErrorCode::NotFound, format!("there is no {what} {name}"))
        .with_remedy(remedy)
}

fn check(endpoint: &Endpoint) -> Result<(), ApiError> {
    let refuse = |what: &str, remedy: &str| {
        Err(ApiError::new(ErrorCode::Invalid, what).with_remedy(remedy))
    };
    if !endpoint.ip.is_ipv4() || endpoint.ip.is_unspecified() {
        return refuse("ip is no IPv4 address", "for example 203.0.113.10");
    }
    if endpoint.ipv6.is_some_and(|ip| !ip.is_ipv6() || ip.is_unspecified()) {
        return refuse("ipv6 is no IPv6 address", "for example 2001:db8::1");
    }
    if endpoint.port == 0 {
        return refuse("port 0 is no port", "use 1 to 65535");
    }
    if endpoint.weight > 100 {
        return refuse("the weight is over 100", "it is a percentage; 0 drains");
    }
    if endpoint.capacity.is_some_and(|capacity| capacity.get() == 0) {
        return refuse("a capacity of nothing", "to drain a region set its weight to 0");
    }
    Ok(())
}
