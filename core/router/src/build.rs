//! Makes tables, off the hot path, and refuses inputs that would send requests nowhere: then
//! the last good table stays.

use std::sync::Arc;

use dwcp_types::{RegionId, ServiceId};

use crate::decide::Standing;
use crate::input::{CELLS_MAX, Inputs, REGIONS_MAX, SERVICES_MAX, Spot};
use crate::near::{NONE, Ways, lines};
use crate::plan::{Plan, relays};
use crate::rendezvous::salt;
use crate::service::{CLASSES, Class};
use crate::share::{Entry, Past, step};
use crate::table::{Table, answer};
use crate::weigh::Prices;

/// Why no table is made of inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is nothing to route to.
    #[error("there is no region; describe at least one")]
    NoRegions,
    /// Too many of something.
    #[error("{count} {what} are more than {most}; split the federation")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A region is there twice.
    #[error("the region {0} is there twice; keep one of the two")]
    RegionTwice(RegionId),
    /// A service is there twice.
    #[error("the service {0} is there twice; keep one of the two")]
    ServiceTwice(ServiceId),
    /// A region has no bandwidth.
    #[error("the region {0} has no capacity; state its bandwidth in Mbit/s")]
    NoCapacity(RegionId),
    /// A place is not on the earth.
    #[error(
        "{what} is not on the earth; latitudes are -90 to 90 and longitudes -180 to 180"
    )]
    NoSuchPlace {
        /// What.
        what: String,
    },
    /// Weights do not add up.
    #[error("the weights of service {0} do not add up to 10000 basis points")]
    Weights(ServiceId),
    /// No region may ever answer for a service.
    #[error(
        "requests for service {service} (class {class}) would go nowhere: no region has it and \
         its protocol, residency, laws and encryption; relax one of them, or add a region"
    )]
    Nowhere {
        /// The service.
        service: ServiceId,
        /// The class.
        class: &'static str,
    },
}

impl Table {
    /// Makes a table. From `before` it takes who led and how requests were shared.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the inputs; the table before is then still the best.
    pub fn build(
        mut inputs: Inputs,
        generation: u64,
        before: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        inputs.sites.sort_by(|a, b| a.id.cmp(&b.id));
        inputs.services.sort_by(|a, b| a.id.cmp(&b.id));
        let problems = check(&inputs);
        if !problems.is_empty() {
            return Err(problems);
        }
        let plans: Vec<Plan> = inputs
            .services
            .iter()
            .flat_map(|service| {
                let wanted = service.requirements.into_iter();
                wanted.map(|wanted| Plan::new(&inputs, service, wanted))
            })
            .collect();
        let problems = check_reach(&inputs, &plans);
        if !problems.is_empty() {
            return Err(problems);
        }
        let names = inputs.services.iter().map(|service| service.id.clone()).zip(0..);
        let mut table = Self {
            generation,
            services: names.collect(),
            ways: Ways::new(&inputs, relays(&inputs)),
            prices: prices(&inputs),
            plans,
            entries: Arc::default(),
            salts: inputs.sites.iter().map(|site| salt(site.id.as_str())).collect(),
            memory: Memory::of(&inputs, before),
            inputs,
        };
        table.entries = table.answers();
        Ok(table)
    }

    fn answers(&self) -> Arc<[Entry]> {
        let cells = self.inputs.cells.len();
        let mut entries = Vec::with_capacity(self.plans.len() * cells);
        for (at, plan) in self.plans.iter().enumerate() {
            for cell in 0..cells {
                let field = self.field(cell, Standing::ALL);
                let past = self.memory.past(at, cell);
                entries.push(answer(plan, field, past.as_ref(), &mut ()));
            }
        }
        entries.into()
    }
}

/// What was answered before, and how its numbers are those of today.
#[derive(Debug)]
pub(crate) struct Memory {
    entries: Arc<[Entry]>,
    cells: usize,
    /// The number of each of today's plans then.
    plans: Vec<Option<usize>>,
    /// The number of each of then's regions today; nothing when none has changed.
    sites: Option<[u8; REGIONS_MAX]>,
    step: u8,
}

impl Memory {
    fn of(inputs: &Inputs, before: Option<&Table>) -> Self {
        let known = before.filter(|before| continues(inputs, &before.inputs));
        let Some(before) = known else {
            return Self {
                entries: Arc::default(),
                cells: 0,
                plans: Vec::new(),
                sites: None,
                step: 0,
            };
        };
        let plans = inputs.services.iter().flat_map(|service| {
            let then = before.services.get(&service.id).map(|at| usize::from(*at));
            (0..CLASSES).map(move |class| then.map(|then| then * CLASSES + class))
        });
        let now = |id: &RegionId| {
            let found = inputs.sites.binary_search_by(|site| site.id.cmp(id)).ok();
            found.and_then(|at| u8::try_from(at).ok()).unwrap_or(NONE)
        };
        let mut sites = [NONE; REGIONS_MAX];
        for (then, site) in before.inputs.sites.iter().enumerate() {
            sites[then] = now(&site.id);
        }
        let changed = before.inputs.sites.iter().zip(0_u8..).zip(sites);
        let changed = changed.into_iter().any(|((_, then), now)| then != now);
        Self {
            entries: before.entries.clone(),
            cells: before.inputs.cells.len(),
            plans: plans.collect(),
            sites: changed.then_some(sites),
            step: step(inputs.now.since(before.inputs.now)),
        }
    }

    #[inline]
    pub(crate) fn past(&self, plan: usize, cell: usize) -> Option<Past> {
        let then = (*self.plans.get(plan)?)?;
        if cell >= self.cells {
            return None;
        }
        let mut entry = *self.entries.get(then * self.cells + cell)?;
        if let Some(map) = &self.sites {
            for site in &mut entry.sites {
                *site = map.get(usize::from(*site)).copied().unwrap_or(NONE);
            }
        }
        Some(Past { entry, step: self.step })
    }
}

/// Whether the cells of before are there in their order, with new ones behind them at most;
/// what is measured from there may differ.
fn continues(inputs: &Inputs, before: &Inputs) -> bool {
    let (now, then) = (&inputs.cells, &before.cells);
    now.len() >= then.len()
        && now.iter().zip(then).all(|(now, then)| now.spot == then.spot)
}

fn prices(inputs: &Inputs) -> Prices {
    let sites = &inputs.sites;
    let lines = lines(inputs);
    let mut via = Vec::with_capacity(lines.len());
    for (at, answers) in sites.iter().enumerate() {
        for (relay, known) in sites.iter().zip(&lines[at * sites.len()..]) {
            let between =
                known.and_then(|link| link.egress_gb).unwrap_or(answers.egress_gb);
            via.push(between.get().saturating_add(relay.egress_gb.get()));
        }
    }
    Prices { sites: sites.len(), via }
}

fn check(inputs: &Inputs) -> Vec<Problem> {
    let mut problems = Vec::new();
    if inputs.sites.is_empty() {
        problems.push(Problem::NoRegions);
    }
    for (what, count, most) in [
        ("regions", inputs.sites.len(), REGIONS_MAX),
        ("services", inputs.services.len(), SERVICES_MAX),
        ("cells", inputs.cells.len(), CELLS_MAX),
    ] {
        if count > most {
            problems.push(Problem::TooMany { what, count, most });
        }
    }
    let twice = inputs.sites.windows(2).filter(|pair| pair[0].id == pair[1].id);
    problems.extend(twice.map(|pair| Problem::RegionTwice(pair[0].id.clone())));
    let twice = inputs.services.windows(2).filter(|pair| pair[0].id == pair[1].id);
    problems.extend(twice.map(|pair| Problem::ServiceTwice(pair[0].id.clone())));
    for site in &inputs.sites {
        if site.capacity.get() == 0 {
            problems.push(Problem::NoCapacity(site.id.clone()));
        }
        if !on_earth(site.spot) {
            problems.push(Problem::NoSuchPlace { what: format!("region {}", site.id) });
        }
    }
    let astray = |spot: Option<Spot>| spot.is_some_and(|spot| !on_earth(spot));
    if let Some(at) = inputs.cells.iter().position(|cell| astray(cell.spot)) {
        problems.push(Problem::NoSuchPlace { what: format!("cell {at}") });
    }
    let broken = inputs
        .services
        .iter()
        .filter(|service| service.weights.is_some_and(|weights| !weights.is_whole()));
    problems.extend(broken.map(|service| Problem::Weights(service.id.clone())));
    problems
}

fn on_earth(spot: Spot) -> bool {
    (-90.0..=90.0).contains(&spot.latitude) && (-180.0..=180.0).contains(&spot.longitude)
}

fn check_reach(inputs: &Inputs, plans: &[Plan]) -> Vec<Problem> {
    let sites = inputs.sites.len();
    let lost =
        |plan: &Plan| plan.sites[..sites].iter().all(|site| site.refused.is_hard());
    let all = inputs
        .services
        .iter()
        .flat_map(|service| Class::ALL.map(|class| (service, class)));
    all.zip(plans)
        .filter(|(_, plan)| lost(plan))
        .map(|((service, class), _)| Problem::Nowhere {
            service: service.id.clone(),
            class: class.as_str(),
        })
        .collect()
}
