//! A federation of four regions, and questions to its name server.
//!
//! Two regions are at one place and share what is sticky or shared; one has no IPv6, one has no
//! address at all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use domain::base::iana::{Class, Rtype};
use domain::base::message_builder::AdditionalBuilder;
use domain::base::opt::ClientSubnet;
use domain::base::{Message, MessageBuilder};
use domain::rdata::AllRecordData;
use dwcp_router::{
    Aged, Algorithm, Cell, FailMode, Inputs, Protocols, Requirement, Service, Site, Spot,
    Standing, Table,
};
use dwcp_types::{
    Health, HealthState, Mbps, MicroUsd, Micros, RegionId, ServiceId, Timestamp,
};

use crate::{Clients, Network, Steering};

use super::super::{
    AddressBook, Addresses, Asker, Name, NameServer, Outcome, Transport, View, Zone,
    ZoneSpec, answer,
};

pub(super) const ZONE: &str = "cdn.example.com";
const PLACES: [(&str, f64, f64); 5] = [
    ("ap", 19.0, 73.0),
    ("eu", 53.0, -6.0),
    ("eu-b", 53.0, -6.0),
    ("none", 38.0, -77.0),
    ("us", 39.0, -77.0),
];

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn site(id: &str, latitude: f64, longitude: f64) -> Site {
    let now = Timestamp::from_millis(0);
    Site {
        id: RegionId::new(id).unwrap(),
        spot: Spot { latitude, longitude },
        country: "IE".to_owned(),
        continent: "Europe".to_owned(),
        laws: Vec::new(),
        health: Aged {
            value: Health { state: HealthState::Healthy, score: 100 },
            at: now,
        },
        capacity: Mbps::new(1_000),
        load: None,
        cpu_hour: MicroUsd::new(1),
        egress_gb: MicroUsd::new(1),
        protocols: Protocols::ALL,
        encrypts: true,
        weight: 100,
    }
}

fn service(id: &str, regions: &[&str]) -> Service {
    let mut service = Service::new(ServiceId::new(id).unwrap(), Algorithm::Geo);
    service.requirements = [Requirement::default(); 3];
    service.regions = regions.iter().map(|id| RegionId::new(id).unwrap()).collect();
    service
}

static TABLE: LazyLock<Arc<Table>> = LazyLock::new(|| Arc::new(table()));

fn table() -> Table {
    let mut closed = service("closed", &["us"]);
    closed.fail = FailMode::Closed;
    // Faster than light.
    let latency_max = Some(Micros::new(1));
    closed.requirements = [Requirement { latency_max, ..Requirement::default() }; 3];
    let mut sticky = service("sticky", &["eu", "eu-b"]);
    sticky.sticky = true;
    let spots = [None, Some(1), Some(4), Some(0)];
    let cell = |place: Option<usize>| Cell {
        spot: place.map(|at| Spot { latitude: PLACES[at].1, longitude: PLACES[at].2 }),
        trips: BTreeMap::new(),
    };
    let inputs = Inputs {
        now: Timestamp::from_millis(0),
        sites: PLACES.iter().map(|(id, lat, lon)| site(id, *lat, *lon)).collect(),
        links: Vec::new(),
        cells: spots.map(cell).to_vec(),
        services: vec![
            service("web", &["ap", "eu", "us"]),
            service("shared", &["eu", "eu-b"]),
            sticky,
            closed,
            service("nowhere", &["none"]),
        ],
    };
    Table::build(inputs, 7, None).unwrap()
}

/// Addresses whose last number says the region: 1 is `ap`, 2 `eu`, 3 `eu-b`, 5 `us`.
fn addresses() -> BTreeMap<RegionId, Addresses> {
    let ip = |last: u16| Addresses {
        ipv4: format!("203.0.113.{last}").parse().ok(),
        ipv6: (last != 5).then(|| format!("2001:db8::{last}").parse().unwrap()),
    };
    let known = [("ap", 1), ("eu", 2), ("eu-b", 3), ("us", 5)];
    known.map(|(id, last)| (RegionId::new(id).unwrap(), ip(last))).into()
}

fn networks() -> Vec<Network> {
    [
        ("192.0.2.0", 24, 1),
        ("198.51.100.0", 24, 2),
        ("10.0.0.0", 8, 2),
        ("10.7.0.0", 16, 3),
        ("10.7.9.128", 25, 1),
        ("2001:db8:1::", 48, 3),
    ]
    .map(|(address, len, cell)| Network { address: address.parse().unwrap(), len, cell })
    .to_vec()
}

pub(super) fn spec() -> ZoneSpec {
    let zone = name(ZONE);
    let server = |first: &str, v4: &str| NameServer {
        name: zone.under(first).unwrap(),
        addresses: Addresses { ipv4: v4.parse().ok(), ipv6: "2001:db8::53".parse().ok() },
    };
    let elsewhere =
        NameServer { name: name("ns.example.net"), addresses: Addresses::default() };
    let names = ["web", "shared", "sticky", "closed", "nowhere"]
        .map(|id| (zone.under(id).unwrap(), ServiceId::new(id).unwrap()));
    let mut names = names.to_vec();
    names.push((zone.clone(), ServiceId::new("web").unwrap()));
    names.push((zone.under("a.deep").unwrap(), ServiceId::new("web").unwrap()));
    ZoneSpec {
        contact: name("hostmaster.example.com"),
        name_servers: vec![
            server("ns1", "203.0.113.53"),
            server("ns2", "203.0.113.54"),
            elsewhere,
        ],
        names,
        answers: 1,
        identity: "eu".to_owned(),
        apex: zone,
    }
}

pub(super) fn view() -> View {
    view_with(spec(), |_, _| {})
}

pub(super) fn view_with(
    spec: ZoneSpec,
    change: impl FnOnce(&mut Steering, &mut AddressBook),
) -> View {
    let mut steering = Steering {
        table: TABLE.clone(),
        standing: Standing::ALL,
        clients: Arc::new(Clients::new(&networks(), 0)),
    };
    let mut addresses = addresses();
    change(&mut steering, &mut addresses);
    View::new(Arc::new(Zone::new(spec).unwrap()), Some((steering, addresses)))
}

/// A question to be asked in many ways.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) name: String,
    pub(super) rtype: Rtype,
    pub(super) edns: bool,
    pub(super) udp_bytes_max: u16,
    pub(super) subnet: Option<(IpAddr, u8)>,
    pub(super) source: IpAddr,
    pub(super) transport: Transport,
    pub(super) request: u64,
}

impl Ask {
    /// For an address, of `web` unless the name says another or a whole one.
    pub(super) fn new(name: &str) -> Self {
        let name = match name {
            "@" => ZONE.to_owned(),
            whole if whole.ends_with('.') => whole.to_owned(),
            first => format!("{first}.{ZONE}"),
        };
        Self {
            name,
            rtype: Rtype::A,
            edns: false,
            udp_bytes_max: 1_232,
            subnet: None,
            source: "192.0.2.9".parse().unwrap(),
            transport: Transport::Udp,
            request: 1,
        }
    }

    pub(super) fn of(mut self, rtype: Rtype) -> Self {
        self.rtype = rtype;
        self
    }

    pub(super) fn for_client(mut self, address: &str, len: u8) -> Self {
        self.edns = true;
        self.subnet = Some((address.parse().unwrap(), len));
        self
    }

    pub(super) fn with_edns(mut self) -> Self {
        self.edns = true;
        self
    }

    pub(super) fn from(mut self, source: &str) -> Self {
        self.source = source.parse().unwrap();
        self
    }

    pub(super) fn packet(&self) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(0x1234);
        builder.header_mut().set_rd(true);
        let mut question = builder.question();
        let owner: domain::base::Name<Vec<u8>> = self.name.parse().unwrap();
        question.push((&owner, self.rtype, Class::IN)).unwrap();
        let mut additional: AdditionalBuilder<Vec<u8>> = question.additional();
        if self.edns {
            additional
                .opt(|opt| {
                    opt.set_udp_payload_size(self.udp_bytes_max);
                    match self.subnet {
                        Some((address, len)) => {
                            opt.push(&ClientSubnet::new(len, 0, address))
                        }
                        None => Ok(()),
                    }
                })
                .unwrap();
        }
        additional.finish()
    }

    pub(super) fn asker(&self) -> Asker {
        Asker { source: self.source, transport: self.transport, request: self.request }
    }

    /// The answer.
    pub(super) fn ask(&self, view: &View) -> Told {
        let mut out = Vec::new();
        let outcome = answer(view, &self.packet(), &self.asker(), &mut out);
        Told::read(&out, outcome)
    }
}

/// An answer that was read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) outcome: Outcome,
    pub(super) rcode: String,
    pub(super) bytes: usize,
    pub(super) authoritative: bool,
    pub(super) truncated: bool,
    /// Records as text: type, time to live, data.
    pub(super) answer: Vec<String>,
    pub(super) authority: Vec<String>,
    pub(super) additional: Vec<String>,
    pub(super) scope: Option<u8>,
    pub(super) reason: Option<String>,
}

impl Told {
    /// Reads an answer, every record of it.
    pub(super) fn read(bytes: &[u8], outcome: Outcome) -> Self {
        let message = Message::from_octets(bytes).unwrap();
        let header = message.header();
        assert!(header.qr());
        let section = |section: domain::base::message::RecordSection<'_, &[u8]>| {
            let mut all = Vec::new();
            for record in section {
                let record = record.unwrap();
                let (rtype, ttl) = (record.rtype(), record.ttl().as_secs());
                if rtype == Rtype::OPT {
                    continue;
                }
                let record = record
                    .to_record::<AllRecordData<_, domain::base::ParsedName<_>>>()
                    .unwrap()
                    .unwrap();
                all.push(format!("{rtype} {ttl} {}", record.data()));
            }
            all
        };
        let opt = message.opt();
        let subnet = opt.as_ref().and_then(|opt| opt.opt().client_subnet());
        let reason = opt.as_ref().and_then(|opt| opt.opt().extended_error());
        Self {
            outcome,
            rcode: message.opt_rcode().to_string(),
            bytes: bytes.len(),
            authoritative: header.aa(),
            truncated: header.tc(),
            answer: section(message.answer().unwrap()),
            authority: section(message.authority().unwrap()),
            additional: section(message.additional().unwrap()),
            scope: subnet.map(|subnet| subnet.scope_prefix_len()),
            reason: reason.map(|reason| reason.to_string()),
        }
    }

    /// The addresses without the rest.
    pub(super) fn addresses(&self) -> Vec<String> {
        let data = |record: &String| record.rsplit(' ').next().unwrap().to_owned();
        self.answer.iter().map(data).collect()
    }
}
