//! Regions as network namespaces, joined by the emulator.
//!
//! Every region has an address of its own, a bridge with the anycast gateway for guests, and a
//! default route into the emulator. One place more, the observer, is a wire away from all
//! and no partition reaches it: there a test asks and looks on. All addresses are the same in every
//! bed, because no bed sees another.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command};

use tun_rs::{DeviceBuilder, SyncDevice};

use super::emulator::Emulator;
use super::fabric::{Fabric, Region};
use super::links::Links;
use super::namespace::{Namespace, sweep};
use super::order::{Order, OrderError, Report};
use super::shape::Shape;
use crate::layout::skip;

/// The place from which a test looks on.
pub const OBSERVER: &str = "observer";
/// Where guests find their gateway, in every region.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The bridge for guests, in every region.
pub const BRIDGE: &str = "br0";

/// The bridge's address on its link, the same everywhere: a guest that moves keeps its neighbour.
const GATEWAY_MAC: &str = "02:00:00:00:00:01";
/// The device into the emulator.
const DEVICE: &str = "wan0";
/// Packets that a device holds while the emulator is at another.
const DEVICE_QUEUE: u32 = 10_000;
const MTU: u16 = 1_500;
/// The chance of losses, when nobody says otherwise.
const SEED: u64 = 4;
/// Regions at most: one octet, less the network, the observer and the broadcast.
const REGIONS_MAX: usize = 253;

/// Kernel parameters of each namespace: packets of guests pass, TCP can fill 1 Gbit/s over the
/// longest round trip (343 ms: 43 MB), and no second protocol chatters.
const PARAMETERS: &[(&str, &str)] = &[
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv4/ip_forward", "1"),
    ("ipv4/tcp_rmem", "4096 131072 67108864"),
    ("ipv4/tcp_wmem", "4096 131072 67108864"),
    // Whatever the last connection to a region learnt must not shape the next one.
    ("ipv4/tcp_no_metrics_save", "1"),
];

/// How a bed is made.
#[derive(Clone, Debug)]
pub struct BedPlan {
    links: Links,
    seed: u64,
    offload: bool,
}

impl BedPlan {
    /// Behind these links.
    #[must_use]
    pub const fn new(links: Links) -> Self {
        Self { links, seed: SEED, offload: true }
    }

    /// With losses and jitter by this seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Without large packets that stand for many: each packet on the wire is lost or late by
    /// itself, at more CPU.
    #[must_use]
    pub const fn packet_by_packet(mut self) -> Self {
        self.offload = false;
        self
    }
}

/// Regions joined by an emulated WAN.
#[derive(Debug)]
pub struct Bed {
    // The emulator first: it ends before its devices' namespaces go.
    emulator: Emulator,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    name: String,
    namespace: Namespace,
}

impl Bed {
    /// These regions behind these links; nothing where namespaces cannot be made, and the reason
    /// is printed.
    ///
    /// # Panics
    ///
    /// When a link names another region, or a device cannot be configured.
    #[must_use]
    pub fn new(regions: &[&str], links: &Links) -> Option<Self> {
        Self::of(regions, &BedPlan::new(links.clone()))
    }

    /// As [`Self::new`], with everything that can be chosen.
    ///
    /// # Panics
    ///
    /// As [`Self::new`].
    #[must_use]
    pub fn of(regions: &[&str], plan: &BedPlan) -> Option<Self> {
        if let Some(reason) = missing() {
            return skip(&reason);
        }
        assert!(regions.len() <= REGIONS_MAX, "at most {REGIONS_MAX} regions");
        sweep();
        let names = regions.iter().copied().chain([OBSERVER]);
        let made: io::Result<Vec<_>> = names
            .map(|name| {
                let namespace = Namespace::create(name)?;
                Ok(Place { name: name.to_owned(), namespace })
            })
            .collect();
        match made {
            Ok(places) => Some(Self::join(places, plan)),
            Err(error) => skip(&format!("no network namespace can be made: {error}")),
        }
    }

    fn join(places: Vec<Place>, plan: &BedPlan) -> Self {
        let devices = (1..).zip(&places).map(|(number, place)| {
            let device = furnish(&place.namespace, number, plan.offload);
            device
                .unwrap_or_else(|error| panic!("{} cannot be made: {error}", place.name))
        });
        let devices = devices.collect();
        let region = |(number, place): (u8, &Place)| Region {
            name: place.name.clone(),
            prefix: (network(number), 24),
            observes: place.name == OBSERVER,
        };
        let fabric = Fabric::new((1..).zip(&places).map(region).collect(), plan.seed);
        let emulator = Emulator::start(fabric, devices, plan.offload);
        let bed = Self { emulator: emulator.expect("a thread can be started"), places };
        for (from, to, shape) in plan.links.iter() {
            bed.shape(from, to, shape);
        }
        bed
    }

    /// The address of a region, of the form 10.77.N.1.
    ///
    /// # Panics
    ///
    /// When there is none of this name; so do all that take the name of a region.
    #[must_use]
    pub fn address(&self, region: &str) -> Ipv4Addr {
        let place = self.places.iter().position(|place| place.name == region);
        let place = place.unwrap_or_else(|| panic!("there is no region {region}"));
        address(u8::try_from(place + 1).expect("few regions"))
    }

    /// The name of a region's namespace, for `ip netns exec`.
    #[must_use]
    pub fn namespace(&self, region: &str) -> &str {
        self.place(region).name()
    }

    /// Sets kernel parameters of a region, below `/proc/sys/net/`.
    pub(super) fn set(
        &self,
        region: &str,
        parameters: &[(&str, &str)],
    ) -> io::Result<()> {
        self.place(region).set(parameters)
    }

    /// Runs commands of `ip` in a region, one a line.
    pub(crate) fn configure(&self, region: &str, commands: &str) -> io::Result<()> {
        self.place(region).ip_batch(commands)
    }

    /// Starts a program in a region. Whoever asks ends it.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn run_in(&self, region: &str, command: &mut Command) -> io::Result<Child> {
        // The child is where the thread is that starts it.
        self.inside(region, || command.spawn())
    }

    /// Does something on a thread that is in a region: what it opens and starts is there.
    pub fn inside<T: Send>(&self, region: &str, work: impl FnOnce() -> T + Send) -> T {
        self.place(region)
            .inside(work)
            .expect("a thread can enter a namespace of its own")
    }

    /// Runs a test on threads of the observer, which reach every region whatever is cut.
    ///
    /// # Panics
    ///
    /// When the test does, or no runtime can be made.
    pub fn block_on<T: Send>(
        self: &std::sync::Arc<Self>,
        test: impl Future<Output = T> + Send,
    ) -> T {
        let bed = std::sync::Arc::clone(self);
        let enter = move || bed.place(OBSERVER).enter().expect("a thread can enter");
        self.inside(OBSERVER, || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .on_thread_start(enter)
                .build();
            runtime.expect("a runtime can be made").block_on(test)
        })
    }

    /// Gives the line from one region to another a shape.
    pub fn shape(&self, from: &str, to: &str, shape: Shape) {
        self.order(Order::Shape { from: from.to_owned(), to: to.to_owned(), shape });
    }

    /// Cuts both ways between two regions; what is under way is lost.
    pub fn cut(&self, one: &str, other: &str) {
        self.cut_way(one, other);
        self.cut_way(other, one);
    }

    /// Cuts the way from one region to another and leaves the way back.
    pub fn cut_way(&self, from: &str, to: &str) {
        self.order(Order::Cut { from: from.to_owned(), to: to.to_owned() });
    }

    /// Heals both ways between two regions.
    pub fn heal(&self, one: &str, other: &str) {
        for (from, to) in [(one, other), (other, one)] {
            self.order(Order::Heal { from: from.to_owned(), to: to.to_owned() });
        }
    }

    /// Cuts a region off from all others.
    pub fn isolate(&self, region: &str) {
        self.part(&[region]);
    }

    /// Cuts all ways between these regions and all others.
    pub fn part(&self, side: &[&str]) {
        let side = side.iter().map(|&name| name.to_owned()).collect();
        self.order(Order::Part { side });
    }

    /// Heals everything.
    pub fn heal_all(&self) {
        self.order(Order::HealAll);
    }

    /// Sends packets for an address to a region, also those from guests of its own bridge: for a
    /// guest that starts or arrives there.
    pub fn move_address(&self, address: Ipv4Addr, region: &str) {
        let here = format!("route replace {address}/32 dev {BRIDGE}\n");
        self.place(region).ip_batch(&here).expect("a route to the bridge can be set");
        self.route(address, region);
        // Last, so that at every moment somebody takes what comes.
        for place in self.places.iter().filter(|place| place.name != region) {
            // Most have none.
            place.namespace.ip_batch(&format!("route delete {address}/32\n")).ok();
        }
    }

    /// Sends packets for an address to a region.
    pub fn route(&self, address: Ipv4Addr, region: &str) {
        self.order(Order::Route { address, region: region.to_owned() });
    }

    /// What passed and what was lost since the bed was made; lateness since the last report.
    ///
    /// # Panics
    ///
    /// When the emulator has ended, which it does with the bed.
    #[must_use]
    pub fn report(&self) -> Report {
        self.give(Order::Report)
            .expect("an order of the bed")
            .expect("a report was asked for")
    }

    /// Gives an order as it came from elsewhere.
    ///
    /// # Errors
    ///
    /// When it names what is not there.
    pub fn give(&self, order: Order) -> Result<Option<Report>, OrderError> {
        self.emulator.orders().give(order)
    }

    fn order(&self, order: Order) {
        self.give(order).unwrap_or_else(|error| panic!("{error}"));
    }

    fn place(&self, name: &str) -> &Namespace {
        let place = self.places.iter().find(|place| place.name == name);
        &place.unwrap_or_else(|| panic!("there is no region {name}")).namespace
    }
}

/// What a bed needs and this machine does not have.
fn missing() -> Option<String> {
    let on_path = |program: &str| {
        std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        })
    };
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("/dev/net/tun is missing; load the module tun".to_owned());
    }
    (!on_path("ip")).then(|| "ip is missing (Debian: iproute2)".to_owned())
}

/// Makes a place's devices, addresses and routes; gives the device into the emulator.
fn furnish(namespace: &Namespace, number: u8, offload: bool) -> io::Result<SyncDevice> {
    namespace.set(PARAMETERS)?;
    let device = namespace.inside(|| {
        let device = DeviceBuilder::new().name(DEVICE).mtu(MTU);
        let queue = |more: &mut tun_rs::DeviceBuilderGuard<'_>| {
            more.offload(offload).tx_queue_len(DEVICE_QUEUE);
        };
        device.with(queue).build_sync()
    })??;
    let address = address(number);
    namespace.ip_batch(&format!(
        "link set lo up\n\
         link set {DEVICE} up\n\
         address add {address}/32 dev {DEVICE}\n\
         route add default dev {DEVICE} src {address}\n\
         link add {BRIDGE} address {GATEWAY_MAC} type bridge\n\
         address add {GATEWAY}/32 dev {BRIDGE}\n\
         link set {BRIDGE} up\n"
    ))?;
    Ok(device)
}

const fn network(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, number, 0)
}

const fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, number, 1)
}
