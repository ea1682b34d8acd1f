//! The operator's API, version 1, of routing: where requests go and why, what is known of the
//! ways, and how regions are ranked (O4, O37, DETAILS 2.3).
//!
//! Any region's daemon answers from a table of its own, made of what it knows at that moment;
//! two daemons may differ by what one of them has not heard of yet. Nothing passes through
//! these operations: they say what a name server, a proxy or an announcement would do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dwcp_router::{
    Algorithm, Class, Explanation, FailMode, LegView, Outcome, Protocol, Requirement,
    Weights,
};
use dwcp_types::{Mbps, RegionId, ServiceId, UserZoneId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::public::RegionParams;
use crate::{NoParams, operations};

operations! {
    /// O37.
    GetRouting = Get "/v1/routing" "get_routing"
        "How requests are routed: algorithm, services, endpoints, and the table in use.",
        NoParams, () => RoutingReply;
    /// O4.
    PutRouting = Put "/v1/routing" "configure_routing"
        "Choose how regions are ranked, in all regions at once.",
        NoParams, ConfigureRouting => RoutingReply;
    /// DETAILS 2.3.
    PutRoutingEndpoint = Put "/v1/routing/endpoints/{region}" "set_routing_endpoint"
        "Say where a region answers requests, and how many it may have.",
        RegionParams, Endpoint => RoutingReply;
    /// DETAILS 2.3.
    ExplainRouting = Post "/v1/routing/explain" "explain_routing"
        "Where a request would go, and every region with its score or what speaks against it.",
        NoParams, RoutingQuestion => RoutingAnswer;
    /// DETAILS 2.3.
    GetRoutingLatency = Get "/v1/routing/latency" "routing_latency"
        "The ways from regions and user zones to regions, with what they are known by.",
        NoParams, () => RoutingLatency;
    /// R11, DETAILS 2.3.
    GetAnycast = Get "/v1/routing/anycast" "routing_anycast"
        "Addresses that regions share, and who announces them to which router.",
        NoParams, () => AnycastReply;
    /// What recorded requests would have met under another algorithm.
    ReplayRouting = Post "/v1/routing/replay" "replay_routing"
        "Recorded requests as they are routed now, and as another algorithm would route them.",
        NoParams, ReplayRequest => ReplayReply;
}

/// Most groups of requests in one replay; what is more does not fit into a request.
pub const REPLAY_GROUPS_MAX: usize = 4_096;

/// How requests are routed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoutingReply {
    /// Which daemon answers.
    pub answered_by: RegionId,
    /// How regions are ranked where a service does not say.
    pub algorithm: Algorithm,
    /// Weights instead of the algorithm's, if the configuration has them.
    pub weights: Option<Weights>,
    /// Whether the algorithm was chosen while the federation runs; else it is the file's.
    pub chosen_live: bool,
    /// What is asked for.
    pub services: Vec<ServiceItem>,
    /// Where regions answer.
    pub endpoints: Vec<EndpointItem>,
    /// The table in use; nothing before the first.
    pub table: Option<TableItem>,
    /// Why the newest inputs made no table, when they did not; the one before is in use then.
    pub refused: Vec<String>,
    /// What to know about the answers.
    pub notes: Vec<String>,
}

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableItem {
    /// Its number at this daemon.
    pub generation: u64,
    /// How old it is, in milliseconds.
    pub age_ms: u64,
    /// How many answers it has.
    pub answers: u64,
    /// How long it took to make, in microseconds.
    pub took_us: u64,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceItem {
    /// Its name.
    pub id: ServiceId,
    /// How its regions are ranked.
    pub algorithm: Algorithm,
    /// The weights that count.
    pub weights: Weights,
    /// The regions that have it; all when empty.
    pub regions: BTreeSet<RegionId>,
    /// Countries and continents that its data may go to; anywhere when empty.
    pub residency: BTreeSet<String>,
    /// How it is reached.
    pub protocol: Protocol,
    /// When no region keeps every limit.
    pub fail: FailMode,
    /// Whether a client keeps its region.
    pub sticky: bool,
    /// How long an answer may be kept, in seconds.
    pub ttl_s: u8,
    /// What each class must have.
    pub classes: BTreeMap<Class, Requirement>,
}

/// Where a region answers requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its IPv4 address.
    pub ip: IpAddr,
    /// Its IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<IpAddr>,
    /// Its port; 443 when absent.
    #[serde(default = "https")]
    pub port: u16,
    /// Its bandwidth; that of its region's hosts when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Mbps>,
    /// The share of its requests that it may have, in percent; 0 drains it, 100 when absent.
    #[serde(default = "all")]
    pub weight: u8,
}

const fn https() -> u16 {
    443
}

const fn all() -> u8 {
    100
}

/// An endpoint as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointItem {
    /// The region.
    pub region: RegionId,
    /// Where it answers; nothing when nobody said.
    pub endpoint: Option<Endpoint>,
    /// The bandwidth that is reckoned with.
    pub capacity: Mbps,
    /// Whether it was said while the federation runs; else it is the file's.
    pub set_live: bool,
}

/// How to rank regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigureRouting {
    /// The algorithm of services that do not name one; the file's again when absent.
    pub algorithm: Option<Algorithm>,
}

/// A request to route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoutingQuestion {
    /// The service; the first when absent.
    pub service: Option<ServiceId>,
    /// What kind of traffic.
    pub class: Class,
    /// The client's address; looked up in `routing.clients`.
    pub source_ip: Option<IpAddr>,
    /// Or where it is: a place that users come from,
    pub user_zone: Option<UserZoneId>,
    /// or a region.
    pub region: Option<RegionId>,
    /// Limits of its own instead of its class's.
    pub requirement: Option<Requirement>,
    /// As if these regions were down.
    pub without: BTreeSet<RegionId>,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoutingAnswer {
    /// Which daemon answers.
    pub answered_by: RegionId,
    /// How old the table is that it is from, in milliseconds.
    pub table_age_ms: u64,
    /// Where the client was taken to be, and why.
    pub client: String,
    /// Where the chosen region answers.
    pub endpoint: Option<Endpoint>,
    /// The decision, and every region.
    pub explanation: Explanation,
    /// How long the decision alone took, in nanoseconds.
    pub decide_ns: u64,
    /// What to know about it.
    pub notes: Vec<String>,
}

/// Ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoutingLatency {
    /// Which daemon answers.
    pub answered_by: RegionId,
    /// From each place to each region.
    pub rows: Vec<LatencyRow>,
    /// What to know about them.
    pub notes: Vec<String>,
}

/// Shared addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnycastReply {
    /// Which daemon answers.
    pub answered_by: RegionId,
    /// Each group in each of its regions.
    pub items: Vec<AnycastItem>,
    /// Regions that did not say how theirs stand.
    pub missing: Vec<RegionId>,
}

/// How an address that regions share stands in one of them (R11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnycastItem {
    /// The group.
    pub group: String,
    /// What answers at the address.
    pub service: ServiceId,
    /// The address.
    pub address: IpAddr,
    /// The region.
    pub region: RegionId,
    /// Whether its router was told that the address is here.
    pub announced: bool,
    /// Whether it should be.
    pub wanted: bool,
    /// Whether the region is fit to answer.
    pub fit: bool,
    /// Why.
    pub why: String,
    /// The router that is told.
    pub router: String,
    /// Why it does not listen, or what it does not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How the way to it stands, where that is watched by BFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<AnycastBfd>,
    /// What is wrong although it is announced, and what to do: the machine does not have the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// How the way to a router stands, as BFD finds it (RFC 5880).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnycastBfd {
    /// Here: `up`, `init`, `down` or `admin_down`.
    pub state: String,
    /// There; nothing when the router is not heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_state: Option<String>,
    /// The longest pause between two packets from here, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transmit_ms: Option<u64>,
    /// The silence after which the way is taken as gone, in milliseconds; nothing when the router is
    /// not heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection_ms: Option<u64>,
    /// Why it was down the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<String>,
    /// What the router says of its last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_diagnostic: Option<String>,
    /// How often the way failed since the daemon started.
    pub failures: u64,
    /// Packets that came and did not count.
    pub discarded: u64,
    /// Why nothing can be sent or heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// From one place to every region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyRow {
    /// The region or user zone that it begins at.
    pub from: String,
    /// Whether that is a region.
    pub is_region: bool,
    /// The ways.
    pub to: BTreeMap<RegionId, LegView>,
}

/// Recorded requests, and what to compare with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// How regions are ranked in the other case, for every service.
    pub algorithm: Algorithm,
    /// The requests, at most 4,096 groups.
    pub groups: Vec<TrafficGroup>,
}

/// Requests that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficGroup {
    /// Where they come from: an address, a user zone or a region.
    pub source: String,
    /// What they ask for; the first service when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// What kind of traffic.
    #[serde(default)]
    pub class: Class,
    /// How many.
    pub requests: u64,
}

/// Two policies over the same requests. Both as if they had been in force for long: no leader
/// of before is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayReply {
    /// Which daemon answers.
    pub answered_by: RegionId,
    /// As requests are routed now.
    pub now: Outcome,
    /// The other algorithm.
    pub algorithm: Algorithm,
    /// As it would route them.
    pub then: Outcome,
    /// What to know about it.
    pub notes: Vec<String>,
}
