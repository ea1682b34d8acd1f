//! Reads the block `routing.anycast`: addresses that several regions share, and the router next to
//! each region (R11, R12).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU8;
use std::time::Duration;

use dwcp_edge::anycast::{Bfd, Neighbor};
use dwcp_router::bfd::Settings;
use dwcp_types::{RegionId, ServiceId};
use serde::Serialize;

use super::duration;
use super::federation::Federation;
use super::field::Field;
use super::front::{FrontSpec, ServiceSpec};
use super::names::Names;
use super::problem::{Position, Report};
use super::section::{Section, each};

const KEYS: &[&str] = &["groups", "routers"];
const GROUP_KEYS: &[&str] = &["id", "service", "virtual_ip", "regions"];
const ROUTER_KEYS: &[&str] = &[
    "region",
    "address",
    "as",
    "own_as",
    "router_id",
    "next_hop",
    "next_hop6",
    "hold_time",
    "bfd",
];
const BFD_KEYS: &[&str] = &["interval", "multiplier", "multihop"];

/// Most groups: each is an announcement for all of the world to keep.
const GROUPS_MAX: usize = 64;
/// Most characters of a group's id.
const ID_LEN_MAX: usize = 64;
/// Where routers listen.
const BGP_PORT: u16 = 179;
/// Silence after which a router takes another way: the shortest that BGP has, because its promise
/// is 5 s (R12).
const HOLD: Duration = Duration::from_secs(3);
const HOLD_MAX: Duration = Duration::from_mins(4);
/// Pauses between packets of BFD. With less than the shortest a busy machine is taken for a dead one;
/// with the usual one, three times, silence is found in 900 ms.
const BFD_MIN: Duration = Duration::from_millis(50);
const BFD: Duration = Duration::from_millis(300);
const BFD_MAX: Duration = Duration::from_secs(10);
/// Pauses that make a silence: with one, a single packet that is lost is a failure.
const BFD_TIMES_MIN: u64 = 2;
const BFD_TIMES: u64 = 3;
const BFD_TIMES_MAX: u64 = 50;

/// What is announced, where and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AnycastConfig {
    /// The shared addresses.
    pub groups: Vec<GroupSpec>,
    /// The router next to each region that announces.
    pub routers: Vec<RouterSpec>,
}

/// Regions that share an address (R11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupSpec {
    /// Its name.
    pub id: String,
    /// What answers there.
    pub service: ServiceId,
    /// The address.
    pub virtual_ip: IpAddr,
    /// Who announces it.
    pub regions: BTreeSet<RegionId>,
}

/// The router next to a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouterSpec {
    /// The region.
    pub region: RegionId,
    /// The router, and who the region is to it.
    #[serde(skip)]
    pub neighbor: Neighbor,
}

/// What a group's members are checked against.
pub(super) struct Beside<'a> {
    pub(super) services: &'a [ServiceSpec],
    pub(super) fronts: &'a [FrontSpec],
}

/// Reads the block; nothing is announced without it.
pub(super) fn anycast(
    routing: &Section<'_>,
    beside: &Beside<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<AnycastConfig> {
    let Some(field) = routing.get("anycast") else {
        return Some(AnycastConfig::default());
    };
    let section = Section::open(field.node, "`anycast`", KEYS, report)?;
    let example = "[{ region: us-east-1, address: 10.0.0.1, as: 64500, own_as: 64512 }]";
    let routers = section.need("routers", example, report);
    let routers = routers.and_then(|field| {
        let items = field.list(1..=super::REGIONS_MAX, report)?;
        each(
            &items,
            |item, report| router(item, names, report),
            report,
            |one: &RouterSpec, other| {
                (one.region == other.region)
                    .then(|| format!("two routers are of the region `{}`", one.region))
            },
        )
    });
    let example = "[{ id: api, service: api.example.com, virtual_ip: 203.0.113.10, regions: [us-east-1] }]";
    let groups = section.need("groups", example, report);
    let groups = groups.and_then(|field| {
        let items = field.list(1..=GROUPS_MAX, report)?;
        let known = routers.as_deref();
        each(
            &items,
            |item, report| group(item, beside, known, names, report),
            report,
            |one: &GroupSpec, other| {
                if one.id == other.id {
                    Some(format!("two groups are named `{}`", one.id))
                } else {
                    (one.virtual_ip == other.virtual_ip).then(|| {
                        format!(
                            "the groups `{}` and `{}` share {}",
                            other.id, one.id, one.virtual_ip
                        )
                    })
                }
            },
        )
    });
    Some(AnycastConfig { groups: groups?, routers: routers? })
}

/// Whoever announces an address answers there.
pub(super) fn check(federation: &Federation, at: Position, report: &mut Report<'_>) {
    let shares = |region: &RegionId| {
        let groups = &federation.routing.anycast.groups;
        groups.iter().any(|group| group.regions.contains(region))
    };
    for spec in &federation.regions {
        let region = &spec.region.id;
        if shares(region) && spec.proxy_endpoint.is_none() {
            let reason =
                format!("the region `{region}` shares an address and has no proxy");
            let help =
                "add `proxy_endpoint` to it, or take it out of `routing.anycast.groups`";
            report.error(at, reason, help);
        }
    }
}

fn router(
    item: &Field<'_>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<RouterSpec> {
    let section = Section::open(item.node, "a router", ROUTER_KEYS, report)?;
    let region = section.need("region", "us-east-1", report);
    let region = region.and_then(|field| {
        let region: RegionId = field.parsed(report)?;
        names.refer(&region, field.at(), "routing.anycast.routers.region");
        Some(region)
    });
    let address = section.need("address", "10.0.0.1", report);
    let address = address.and_then(|field| socket(&field, report));
    let mut number = |key: &'static str, example: &str| {
        let field = section.need(key, example, report)?;
        u32::try_from(field.count(1..=u64::from(u32::MAX - 1), report)?).ok()
    };
    let (asn, own_asn) = (number("as", "64500"), number("own_as", "64512"));
    let router_id = section.get("router_id").map(|field| {
        let text = field.text(report)?;
        let id = text.parse::<Ipv4Addr>().ok().filter(|id| !id.is_unspecified());
        id.or_else(|| field.refuse("an address of IPv4", "such as 10.0.0.2", report))
    });
    let four = section.get("next_hop").map(|field| {
        let IpAddr::V4(hop) = unicast(&field, report)? else {
            return field.refuse("an address of IPv4", "such as 10.0.0.2", report);
        };
        Some(hop)
    });
    let six = section.get("next_hop6").map(|field| {
        let IpAddr::V6(hop) = unicast(&field, report)? else {
            return field.refuse("an address of IPv6", "such as 2001:db8::2", report);
        };
        Some(hop)
    });
    let hold = section
        .get("hold_time")
        .map_or(Some(HOLD), |field| field.duration(HOLD..=HOLD_MAX, report));
    let hold = hold.map(|hold| Duration::from_secs(hold.as_secs()));
    let bfd = section.get("bfd").map(|field| bfd(&field, hold?, report));
    let (address, router_id) =
        (address?, router_id.map_or(Some(None), |id| id.map(Some))?);
    if address.is_ipv6() && router_id.is_none() {
        let reason = "a router that is spoken to by IPv6 needs a `router_id`";
        report.error(
            item.at(),
            reason,
            "add any IPv4 address of the region, such as 10.0.0.2",
        );
        return None;
    }
    let neighbor = Neighbor {
        address,
        asn: asn?,
        own_asn: own_asn?,
        router_id,
        next_hop: (
            four.map_or(Some(None), |hop| hop.map(Some))?,
            six.map_or(Some(None), |hop| hop.map(Some))?,
        ),
        hold: hold?,
        bfd: bfd.map_or(Some(None), |bfd| bfd.map(Some))?,
    };
    Some(RouterSpec { region: region?, neighbor })
}

/// How the way to a router is watched: it must find silence before BGP does.
fn bfd(field: &Field<'_>, hold: Duration, report: &mut Report<'_>) -> Option<Bfd> {
    let section = Section::open(field.node, "`bfd`", BFD_KEYS, report)?;
    let interval = section
        .get("interval")
        .map_or(Some(BFD), |field| field.duration(BFD_MIN..=BFD_MAX, report));
    let times = section.get("multiplier").map_or(Some(BFD_TIMES), |field| {
        field.count(BFD_TIMES_MIN..=BFD_TIMES_MAX, report)
    });
    let multihop =
        section.get("multihop").map_or(Some(false), |field| field.truth(report));
    let multiplier = u8::try_from(times?).ok().and_then(NonZeroU8::new)?;
    let settings = Settings { interval: interval?, multiplier };
    let silence = settings.detection();
    if silence >= hold {
        let reason = format!(
            "BFD would find silence after {}, no sooner than BGP does by `hold_time`, {}",
            duration::display(silence),
            duration::display(hold)
        );
        let help = "lower `interval` or `multiplier`, or leave `bfd` out";
        report.error(field.at(), reason, help);
        return None;
    }
    Some(Bfd { settings, multihop: multihop? })
}

fn socket(field: &Field<'_>, report: &mut Report<'_>) -> Option<SocketAddr> {
    let text = field.text(report)?;
    let alone = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, BGP_PORT));
    let found = text.parse::<SocketAddr>().ok().or_else(alone);
    found.filter(|it| !it.ip().is_unspecified() && it.port() > 0).or_else(|| {
        field.refuse("an address", "write one such as 10.0.0.1 or 10.0.0.1:179", report)
    })
}

fn unicast(field: &Field<'_>, report: &mut Report<'_>) -> Option<IpAddr> {
    let text = field.text(report)?;
    let ip = text.parse::<IpAddr>().ok();
    let ip =
        ip.filter(|ip| !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback());
    ip.or_else(|| {
        let help = "write one such as 203.0.113.10";
        field.refuse("an address that others can reach", help, report)
    })
}

fn group(
    item: &Field<'_>,
    beside: &Beside<'_>,
    routers: Option<&[RouterSpec]>,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<GroupSpec> {
    let section = Section::open(item.node, "a group", GROUP_KEYS, report)?;
    let id = section.need("id", "api", report);
    let id = id.and_then(|field| {
        let text = field.text(report)?;
        let fits = (1..=ID_LEN_MAX).contains(&text.chars().count());
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if fits && plain {
            return Some(text.to_owned());
        }
        field.refuse("a name", "use letters, digits and `-`, such as api", report)
    });
    let service = section.need("service", "api.example.com", report);
    let service = service.and_then(|field| service_of(&field, beside, report));
    let address = section.need("virtual_ip", "203.0.113.10", report);
    let address = address.and_then(|field| virtual_ip(&field, beside, report));
    let regions = section.need("regions", "[us-east-1, eu-west-1]", report);
    let regions = regions.and_then(|field| {
        let mut regions = BTreeSet::new();
        for item in field.list(1..=super::REGIONS_MAX, report)? {
            let region: RegionId = item.parsed(report)?;
            names.refer(&region, item.at(), "routing.anycast.groups.regions");
            if let Some(all) = routers {
                let router = all.iter().find(|it| it.region == region);
                can_announce(router, (&item, &region), address, report)?;
            }
            regions.insert(region);
        }
        Some(regions)
    });
    Some(GroupSpec {
        id: id?,
        service: service?,
        virtual_ip: address?,
        regions: regions?,
    })
}

/// A region has a router, and a way that packets to the address can take.
fn can_announce(
    router: Option<&RouterSpec>,
    (item, region): (&Field<'_>, &RegionId),
    address: Option<IpAddr>,
    report: &mut Report<'_>,
) -> Option<()> {
    let Some(RouterSpec { neighbor, .. }) = router else {
        let reason = format!("the region `{region}` has no router to announce to");
        report.error(item.at(), reason, "add it to `routing.anycast.routers`");
        return None;
    };
    let by_session = neighbor.address.ip();
    let (has, key) = match address? {
        IpAddr::V4(_) => {
            (neighbor.next_hop.0.is_some() || by_session.is_ipv4(), "next_hop")
        }
        IpAddr::V6(_) => {
            (neighbor.next_hop.1.is_some() || by_session.is_ipv6(), "next_hop6")
        }
    };
    if has {
        return Some(());
    }
    let reason = format!(
        "the router of the region `{region}` is spoken to by another version of IP"
    );
    let help = format!("add the region's own address as `{key}` to its router");
    report.error(item.at(), reason, help);
    None
}

fn service_of(
    field: &Field<'_>,
    beside: &Beside<'_>,
    report: &mut Report<'_>,
) -> Option<ServiceId> {
    let id: ServiceId = field.parsed(report)?;
    if beside.services.iter().any(|spec| spec.service.id == id) {
        return Some(id);
    }
    let known: Vec<&str> =
        beside.services.iter().map(|spec| spec.service.id.as_str()).collect();
    let reason = format!("there is no service `{id}` in `routing.services`");
    report.error(field.at(), reason, format!("services are: {}", known.join(", ")));
    None
}

/// An address that is shared is nobody's own (F55): who asked a region for itself would be answered
/// by another.
fn virtual_ip(
    field: &Field<'_>,
    beside: &Beside<'_>,
    report: &mut Report<'_>,
) -> Option<IpAddr> {
    let ip = unicast(field, report)?;
    let owner =
        beside.fronts.iter().find(|front| front.ip == ip || front.ipv6 == Some(ip));
    let Some(owner) = owner else { return Some(ip) };
    let reason = format!("{ip} is the region `{}`'s own address", owner.region);
    report.error(field.at(), reason, "share an address that no `region_endpoints` has");
    None
}
