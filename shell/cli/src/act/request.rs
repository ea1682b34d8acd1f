//! From flags and files to a placement request.

use std::io::Read;

use dwcp_types::{ComplianceZone, Mbps, OnRegionLoss, Strategy, Tier, VmType};

use crate::app::Run;
use crate::arguments::RequestArgs;
use crate::arguments::{
    LimitArgs, OnRegionLossArg, SizeArgs, StrategyArg, TierArg, TypeArg,
};
use crate::draft::{Draft, read_file};
use crate::failure::Failure;
use crate::parse::{ConstraintPatch, SpecPatch};

/// Reads the file, if there is one, and puts the flags over it. Tells what came of decimal
/// units.
pub(super) fn draft(run: &mut Run<'_>, args: RequestArgs) -> Result<Draft, Failure> {
    let input: &mut dyn Read = &mut run.surroundings.input;
    let mut draft = match &args.file {
        Some(path) => read_file(path, input)?,
        None => Draft::default(),
    };
    let flags = of_sizes(args.sizes).over(args.spec.unwrap_or_default());
    draft.spec = flags.over(draft.spec);
    if run.format().is_for_people() {
        draft.spec.notes().for_each(|note| run.terminal.note(&note));
    }
    args.constraints.unwrap_or_default().apply(&mut draft.constraints);
    of_limits(args.limits).apply(&mut draft.constraints);
    draft.id = args.id.or(draft.id);
    draft.tenant = args.tenant.or(draft.tenant);
    draft.vm_type = args.vm_type.map(vm_type).or(draft.vm_type);
    draft.priority = args.priority.or(draft.priority);
    draft.tier = args.tier.map(tier).or(draft.tier);
    draft.on_region_loss =
        args.on_region_loss.map(on_region_loss).or(draft.on_region_loss);
    draft.replica_max_age_s = args.replica_max_age.or(draft.replica_max_age_s);
    draft.strategy = args.strategy.map(strategy).or(draft.strategy);
    draft.labels.extend(args.label);
    if !args.origin.is_empty() {
        draft.origins = args.origin;
    }
    if !args.affinity.is_empty() {
        draft.constraints.affinity = args.affinity;
    }
    Ok(draft)
}

fn of_sizes(sizes: SizeArgs) -> SpecPatch {
    SpecPatch {
        cpu: sizes.cpu,
        memory: sizes.memory,
        storage: sizes.storage,
        bandwidth: sizes.bandwidth,
        gpus: sizes.gpus,
    }
}

fn of_limits(limits: LimitArgs) -> ConstraintPatch {
    let some = |is: bool| is.then_some(());
    let laws = limits.compliance.iter().map(|law| ComplianceZone::new(law));
    ConstraintPatch {
        max_latency_ms: limits.max_latency,
        min_health_score: limits.min_health,
        cost_limit: limits.cost_limit,
        allowed_regions: some(!limits.allowed_regions.is_empty())
            .map(|()| limits.allowed_regions.into_iter().collect()),
        forbidden_regions: some(!limits.forbidden_regions.is_empty())
            .map(|()| limits.forbidden_regions.into_iter().collect()),
        require_edge: limits.require_edge,
        compliance: some(!limits.compliance.is_empty()).map(|()| laws.collect()),
        data_locality: limits.data_locality,
        min_bandwidth: limits.min_bandwidth.map(|rate| Mbps::new(rate.amount)),
        preferred_provider: limits.preferred_provider,
    }
}

const fn vm_type(arg: TypeArg) -> VmType {
    match arg {
        TypeArg::Compute => VmType::Compute,
        TypeArg::Memory => VmType::Memory,
        TypeArg::Storage => VmType::Storage,
        TypeArg::Gpu => VmType::Gpu,
    }
}

const fn tier(arg: TierArg) -> Tier {
    match arg {
        TierArg::Preemptible => Tier::Preemptible,
        TierArg::Standard => Tier::Standard,
        TierArg::Protected => Tier::Protected,
    }
}

const fn on_region_loss(arg: OnRegionLossArg) -> OnRegionLoss {
    match arg {
        OnRegionLossArg::StayDown => OnRegionLoss::StayDown,
        OnRegionLossArg::RestartFromImage => OnRegionLoss::RestartFromImage,
        OnRegionLossArg::SyncReplica => OnRegionLoss::SyncReplica,
        OnRegionLossArg::AsyncReplica => OnRegionLoss::AsyncReplica,
        OnRegionLossArg::SnapshotReplica => OnRegionLoss::SnapshotReplica,
    }
}

const fn strategy(arg: StrategyArg) -> Strategy {
    match arg {
        StrategyArg::Hybrid => Strategy::Hybrid,
        StrategyArg::Latency => Strategy::Latency,
        StrategyArg::Cost => Strategy::Cost,
        StrategyArg::LoadBalanced => Strategy::LoadBalanced,
    }
}
