//! A request for a VM, a word at a time.

use dwcp_api::migration::AskMigration;
use dwcp_api::public::PlaceVm;
use dwcp_controller::migration::Cause;
use dwcp_controller::ownership::ClientToken;
use dwcp_types::{
    Affinity, AffinityMode, ComplianceZone, Constraints, Gib, GroupId, Hardness, Mib,
    OnRegionLoss, PlacementRequest, RegionId, Scope, TenantId, Tier, VmId, VmShape,
    VmType,
};

/// A move of a VM to a region, and nothing else said of it.
///
/// # Panics
///
/// When a name is no identifier.
#[must_use]
pub fn wish(vm: &str, target: &str) -> AskMigration {
    let vm = VmId::new(vm).expect("a name");
    let target = RegionId::new(target).expect("a name");
    AskMigration { cause: Cause::Rebalance, ..AskMigration::new(vm, target) }
}

/// A VM of one slot: 1 CPU, 1 GiB of memory, 10 GiB of storage, of tenant `acme`.
#[derive(Clone, Debug)]
pub struct Ask(PlaceVm);

impl Ask {
    /// With this name, and a client token that is made of it.
    ///
    /// # Panics
    ///
    /// When the name is no identifier; so do all that take names.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let shape = VmShape {
            cpu: 1,
            memory: Mib::new(1_024),
            storage: Gib::new(10),
            ..VmShape::default()
        };
        let request = PlacementRequest {
            id: VmId::new(name).expect("a name"),
            tenant: TenantId::new("acme").expect("a name"),
            shape,
            vm_type: VmType::Compute,
            constraints: Constraints::default(),
            origins: Vec::new(),
            strategy: None,
            priority: 5,
            tier: Tier::Standard,
            on_region_loss: OnRegionLoss::StayDown,
            replica_max_age_s: None,
            labels: std::collections::BTreeMap::new(),
        };
        let ask = PlaceVm {
            request,
            client_token: None,
            image: None,
            dry_run: false,
            preempt: false,
        };
        Self(ask).token(&format!("token-{name}"))
    }

    /// With this client token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.0.client_token = Some(ClientToken::new(token).expect("a token"));
        self
    }

    /// Only in this region; asked again, in this one too.
    #[must_use]
    pub fn only_in(mut self, region: &str) -> Self {
        let region = RegionId::new(region).expect("a name");
        self.0.request.constraints.allowed_regions.insert(region);
        self
    }

    /// Protected: started elsewhere from its image when its region is lost.
    #[must_use]
    pub const fn protected(self) -> Self {
        self.survives(OnRegionLoss::RestartFromImage)
    }

    /// Protected, its disk kept in another region too.
    #[must_use]
    pub const fn replicated(self) -> Self {
        self.survives(OnRegionLoss::SyncReplica)
    }

    /// Protected, and this becomes of it when its region is lost.
    #[must_use]
    pub const fn survives(mut self, mode: OnRegionLoss) -> Self {
        self.0.request.tier = Tier::Protected;
        self.0.request.on_region_loss = mode;
        self
    }

    /// Protected, its disk in another region too, at most so many seconds old.
    #[must_use]
    pub const fn followed(self, mode: OnRegionLoss, max_age_s: u32) -> Self {
        let mut ask = self.survives(mode);
        ask.0.request.replica_max_age_s = Some(max_age_s);
        ask
    }

    /// So many CPUs.
    #[must_use]
    pub const fn cpu(mut self, cpu: u32) -> Self {
        self.0.request.shape.cpu = cpu;
        self
    }

    /// Under this law.
    #[must_use]
    pub fn under(mut self, law: &str) -> Self {
        let law = ComplianceZone::new(law);
        self.0.request.constraints.required_compliance.insert(law);
        self
    }

    /// A member of this group, together with it or apart from it.
    #[must_use]
    pub fn group(
        mut self,
        group: &str,
        mode: AffinityMode,
        scope: Scope,
        hardness: Hardness,
    ) -> Self {
        let group = GroupId::new(group).expect("a name");
        let rule = Affinity { group, mode, scope, hardness };
        self.0.request.constraints.affinity.push(rule);
        self
    }

    /// So urgent.
    #[must_use]
    pub const fn priority(mut self, priority: u8) -> Self {
        self.0.request.priority = priority;
        self
    }

    /// So well guarded.
    #[must_use]
    pub const fn tier(mut self, tier: Tier) -> Self {
        self.0.request.tier = tier;
        self
    }

    /// Stopping less urgent VMs if it must.
    #[must_use]
    pub const fn preempting(mut self) -> Self {
        self.0.preempt = true;
        self
    }

    /// From this image of the host's folder.
    #[must_use]
    pub fn image(mut self, name: &str) -> Self {
        self.0.image = Some(name.to_owned());
        self
    }

    /// Only asking where it would go.
    #[must_use]
    pub const fn dry_run(mut self) -> Self {
        self.0.dry_run = true;
        self
    }

    /// The request, to be changed beyond these words.
    pub const fn request(&mut self) -> &mut PlacementRequest {
        &mut self.0.request
    }

    /// The body of the call.
    #[must_use]
    pub const fn body(&self) -> &PlaceVm {
        &self.0
    }
}
