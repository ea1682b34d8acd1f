//! Two regions that share an address, behind a real router, and a client of that router.
//!
//! Which region answers a client is seen by the address that its connection has: that of the wire
//! that its packets leave by. What is answered says nothing of that: a proxy may bring a request to
//! any region.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::wan::{Bed, Links, REGIONS_AS, Router, Speech};
use crate::{Federation, HostPlan, Plan, RegionPlan};

/// The address.
pub const SHARED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The one of version 6, where the router speaks that too.
pub const SHARED_SIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xDB8, 0x53, 0, 0, 0, 0, 10);
/// Who shares it, the one first that the router prefers.
pub const POPS: [&str; 2] = ["one", "two"];
/// Keeps the engine, and shares nothing.
pub const HOME: &str = "home";
/// What is asked for.
const HOST: &str = "www.example.com";
/// Where a region's server listens, in its own namespace.
const ORIGIN: &str = "127.0.0.1:9000";

/// The ground: a bed, and a router joined to two of its regions.
#[derive(Debug)]
pub struct Pops {
    /// The regions' bed.
    pub bed: Arc<Bed>,
    /// The router.
    pub router: Router,
    speech: Speech,
}

impl Pops {
    /// Makes it, with the regions' servers and a router that speaks so; nothing where there is no bed
    /// or no BIRD.
    ///
    /// # Panics
    ///
    /// When a server cannot be started.
    #[must_use]
    pub fn new(speech: Speech) -> Option<Self> {
        let bed = Arc::new(Bed::new(&[HOME, POPS[0], POPS[1]], &Links::wires())?);
        let router = Router::join(&bed, &POPS, speech)?;
        for pop in POPS {
            if speech.six {
                let six = format!("address add {SHARED_SIX}/128 dev lo nodad\n");
                bed.configure(pop, &six).expect("a region takes an address");
            }
            let listener = bed.inside(pop, || TcpListener::bind(ORIGIN));
            serve(listener.expect("a server can listen"), pop);
        }
        let pops = Self { bed, router, speech };
        POPS.iter().for_each(|pop| pops.give(pop));
        Some(pops)
    }

    /// Gives the address to a region's machine.
    ///
    /// # Panics
    ///
    /// When it has it.
    pub fn give(&self, pop: &str) {
        let add = format!("address add {SHARED}/32 dev lo\n");
        self.bed.configure(pop, &add).expect("a region takes an address");
    }

    /// Takes it away.
    ///
    /// # Panics
    ///
    /// When it does not have it.
    pub fn take(&self, pop: &str) {
        let delete = format!("address delete {SHARED}/32 dev lo\n");
        self.bed.configure(pop, &delete).expect("a region gives an address up");
    }

    /// Starts the federation.
    pub async fn federation(&self) -> Federation {
        let region = |id: &str| RegionPlan::new(id).host(HostPlan::of_slots(1));
        let plan = Plan::simulated([HOME, POPS[0], POPS[1]].map(region).to_vec());
        Federation::start_on(&self.bed, plan.taking_requests(self.routing())).await
    }

    fn routing(&self) -> Value {
        let upstreams = POPS.map(|pop| json!({ "region": pop, "servers": [ORIGIN] }));
        let routers = POPS.map(|pop| self.router_of(pop));
        let group = |id: &str, address: IpAddr| json!({ "id": id, "service": "web", "virtual_ip": address.to_string(), "regions": POPS });
        let mut groups = vec![group("web", SHARED.into())];
        groups.extend(self.speech.six.then(|| group("web6", SHARED_SIX.into())));
        let front =
            |pop: &str| json!({ "region": pop, "ip": self.bed.address(pop).to_string() });
        json!({
            "algorithm": "latency",
            "region_endpoints": POPS.map(front),
            "services": [{ "id": "web", "domains": [HOST], "upstreams": upstreams }],
            "anycast": {
                "groups": groups,
                "routers": routers,
            },
        })
    }

    /// A region's router, in the words of `routing.anycast.routers`.
    fn router_of(&self, pop: &str) -> Value {
        let (address, asn) = (self.router.address(pop), self.speech.router_as());
        let mut router = json!({
            "region": pop, "address": address.to_string(), "as": asn, "own_as": REGIONS_AS,
        });
        let (four, six) = self.router.far(pop);
        if address.is_ipv6() {
            router["router_id"] = four.to_string().into();
            router["next_hop"] = four.to_string().into();
        } else if self.speech.six {
            router["next_hop6"] = six.to_string().into();
        }
        if self.speech.bfd {
            // What BIRD does by itself with neighbours of its own AS.
            router["bfd"] = json!({ "multihop": self.speech.within });
        }
        router
    }

    /// Asks the shared address beside the router, on a connection of its own: the name of the
    /// region that answers.
    ///
    /// # Errors
    ///
    /// When nobody does within `time_max`, or not with success.
    pub fn ask(
        &self,
        federation: &Federation,
        time_max: Duration,
    ) -> io::Result<&'static str> {
        self.ask_at(SHARED.into(), federation, time_max)
    }

    /// The same at one of the addresses.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub fn ask_at(
        &self,
        address: IpAddr,
        federation: &Federation,
        time_max: Duration,
    ) -> io::Result<&'static str> {
        let port = federation.socket(&format!("{}/proxy", POPS[0])).port();
        let own = self.router.inside(|| asked((address, port).into(), time_max))?;
        let by = POPS.into_iter().find(|pop| {
            let (four, six) = self.router.near(pop);
            own == IpAddr::from(four) || own == IpAddr::from(six)
        });
        by.ok_or_else(|| io::Error::other(format!("it went by no wire, but from {own}")))
    }

    /// What the router said.
    #[must_use]
    pub fn log(&self) -> String {
        self.router.log()
    }
}

/// The own address of a connection on which a request was answered.
fn asked(at: SocketAddr, time_max: Duration) -> io::Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&at, time_max)?;
    stream.set_read_timeout(Some(time_max))?;
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") {
        stream.local_addr().map(|own| own.ip())
    } else {
        Err(io::Error::other(answer))
    }
}

/// Answers every request with a name, for ever.
pub fn serve(listener: TcpListener, name: &'static str) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            std::thread::spawn(move || answer(stream, name));
        }
    });
}

fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let (mut asked, mut part) = (Vec::new(), [0; 1_024]);
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
    loop {
        let len = stream.read(&mut part)?;
        if len == 0 {
            return Ok(());
        }
        asked.extend(part.iter().take(len));
        if asked.ends_with(b"\r\n\r\n") {
            asked.clear();
            stream.write_all(answer.as_bytes())?;
        }
    }
}
