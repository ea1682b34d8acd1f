//! `region add|list|describe|enable|disable|capacity` (O7, O17, DETAILS 2.5).

use dwcp_api::NoParams;
use dwcp_api::public::{
    AddRegion, CreateRegion, EnableRegion, GetRegion, GetRegionCapacity, ListRegions,
    RegionParams, SetEnabled,
};
use dwcp_types::{ComplianceZone, CostProfile, Location, Overcommit, Region, RegionKind};

use super::{show, show_or_watch};
use crate::app::Run;
use crate::arguments::{AddRegionArgs, KindArg, RegionName, WatchArgs};
use crate::draft::read_file;
use crate::failure::Failure;
use crate::view;

/// All regions.
pub(super) async fn list(run: &mut Run<'_>, watch: WatchArgs) -> Result<(), Failure> {
    let session = run.session()?;
    let ask = async |_: &Run<'_>| session.call::<ListRegions>(&NoParams {}, &()).await;
    show_or_watch(run, watch, ask, view::regions).await
}

/// One region.
pub(super) async fn describe(run: &mut Run<'_>, name: RegionName) -> Result<(), Failure> {
    let params = params(name)?;
    let reply = run.session()?.call::<GetRegion>(&params, &()).await?;
    show(run, &reply, view::region)
}

/// Whether a region takes new VMs.
pub(super) async fn set_enabled(
    run: &mut Run<'_>,
    name: RegionName,
    enabled: bool,
) -> Result<(), Failure> {
    let params = params(name)?;
    let reply =
        run.session()?.call::<EnableRegion>(&params, &SetEnabled { enabled }).await?;
    show(run, &reply, |item, _| {
        let verb = if item.region.enabled { "takes" } else { "takes no" };
        format!("{} {verb} new VMs\n", item.region.id)
    })
}

/// What a region can still take.
pub(super) async fn capacity(run: &mut Run<'_>, name: RegionName) -> Result<(), Failure> {
    let params = params(name)?;
    let reply = run.session()?.call::<GetRegionCapacity>(&params, &()).await?;
    show(run, &reply, view::capacity)
}

/// Adds a region.
pub(super) async fn add(run: &mut Run<'_>, args: AddRegionArgs) -> Result<(), Failure> {
    let body = match &args.config {
        Some(path) => read_file::<AddRegion>(path, &mut run.surroundings.input)?,
        None => complete(args)?,
    };
    let reply = run.session()?.call::<CreateRegion>(&NoParams {}, &body).await?;
    show(run, &reply, |item, look| {
        format!("{} added\n\n{}", item.region.id, view::region(item, look))
    })
}

fn params(name: RegionName) -> Result<RegionParams, Failure> {
    let region = name.id().ok_or_else(|| Failure::usage("no region is named"))?;
    Ok(RegionParams { region })
}

/// Everything that scoring needs, or a list of what is missing (F82).
fn complete(args: AddRegionArgs) -> Result<AddRegion, Failure> {
    let missing = missing(&args);
    let AddRegionArgs {
        id: Some(id),
        name: Some(name),
        provider: Some(cloud_provider),
        priority: Some(priority),
        latitude: Some(latitude),
        longitude: Some(longitude),
        country: Some(country),
        continent: Some(continent),
        endpoint_addr: Some(endpoint),
        cpu_cost: Some(cpu_hour),
        memory_cost: Some(memory_gib_hour),
        storage_cost: Some(storage_gib_month),
        zones: availability_zones,
        ..
    } = args
    else {
        return Err(incomplete(&missing));
    };
    if !missing.is_empty() {
        return Err(incomplete(&missing));
    }
    let cost = CostProfile {
        cpu_hour,
        memory_gib_hour,
        storage_gib_month,
        egress_gb: args.egress_cost,
    };
    let compliance = args.compliance.iter().map(|law| ComplianceZone::new(law));
    let region = Region {
        id,
        name,
        location: Location { latitude, longitude, country, continent },
        kind: match args.kind {
            KindArg::Cloud => RegionKind::Cloud,
            KindArg::Edge => RegionKind::Edge,
            KindArg::Hybrid => RegionKind::Hybrid,
        },
        cloud_provider,
        availability_zones,
        compliance_zones: compliance.collect(),
        overcommit: Overcommit { cpu: args.cpu_overcommit },
        cost,
        network_latency: args.latency.into_iter().collect(),
        priority,
        enabled: args.enabled,
    };
    Ok(AddRegion { region, endpoint })
}

fn missing(args: &AddRegionArgs) -> Vec<&'static str> {
    let needed = [
        ("--id", args.id.is_none()),
        ("--name", args.name.is_none()),
        ("--provider", args.provider.is_none()),
        ("--priority", args.priority.is_none()),
        ("--latitude", args.latitude.is_none()),
        ("--longitude", args.longitude.is_none()),
        ("--country", args.country.is_none()),
        ("--continent", args.continent.is_none()),
        ("--zones", args.zones.is_empty()),
        ("--endpoint-addr", args.endpoint_addr.is_none()),
        ("--cpu-cost", args.cpu_cost.is_none()),
        ("--memory-cost", args.memory_cost.is_none()),
        ("--storage-cost", args.storage_cost.is_none()),
    ];
    needed.into_iter().filter(|(_, is)| *is).map(|(flag, _)| flag).collect()
}

fn incomplete(missing: &[&str]) -> Failure {
    let message = format!(
        "the region cannot be placed on or scored without {}",
        missing.join(", ")
    );
    Failure::usage(message).with_remedy(
        "add them, or describe the region in a file and name it with --config",
    )
}
