//! The strong engine of this daemon: opened as the configuration says, and looked after.
//!
//! Of the embedded engine one daemon has the file and a door for the others. Of etcd every
//! daemon is a client of all members, its own region's first; the daemon of the home region
//! also brings the leader home, because a write takes a round trip from the leader to the
//! nearest majority, and one more from whoever is elsewhere (STATE 8.3).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use dwcp_api::engine::{RemoteEngine, engine_routes};
use dwcp_api::public::{EngineMember, EngineStatus};
use dwcp_api::{ApiError, Client, ErrorCode, Routes};
use dwcp_runtime::clock::Clock;
use dwcp_runtime::strong::etcd::{MemberAddress, MemberState};
use dwcp_runtime::strong::{
    Compare, EmbeddedEngine, EtcdEngine, Op, OpId, StrongEngine, StrongError, Txn,
    TxnOutcome,
};
use dwcp_runtime::tls::{ClientTls, Credentials, ExpectedServer, Identity};
use dwcp_types::RegionId;
use tracing::{info, warn};

use crate::config::{EngineChoice, EtcdConfig};
use crate::mirror::Mirror;

/// How often the members are asked how they are, while all is well.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often while a member is silent or none leads.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What to do while the engine does not answer.
pub(crate) const AWAY: &str = "what runs goes on; try again when `dwcp-cli federation status` \
    says that the strong engine answers";

/// Does all of it if all compares hold; says at which revision, or that nothing was done. Asked
/// again after a failure it is done once.
pub(crate) async fn swap(
    engine: &dyn StrongEngine,
    compare: Vec<Compare>,
    then: Vec<Op>,
) -> Result<Option<u64>, StrongError> {
    let txn = Txn { compare, then, op_id: Some(OpId::random()) };
    Ok(match engine.txn(txn).await? {
        TxnOutcome::Committed { revision } => Some(revision),
        TxnOutcome::Conflict { .. } => None,
    })
}

/// What the engine's failure means to a user.
#[must_use]
pub fn failed(error: &StrongError) -> ApiError {
    let message = error.to_string();
    match error {
        StrongError::Indeterminate { .. } => {
            ApiError::new(ErrorCode::Indeterminate, message)
                .with_remedy("look again; asking for the same once more is safe")
        }
        StrongError::TooLarge { .. } | StrongError::Malformed { .. } => {
            ApiError::new(ErrorCode::Invalid, message)
        }
        StrongError::Unavailable { .. }
        | StrongError::Compacted { .. }
        | StrongError::LeaseNotFound { .. } => {
            ApiError::new(ErrorCode::Unavailable, message).with_remedy(AWAY)
        }
    }
}

/// The same of an operation that has an id.
pub(crate) fn failed_under(error: &StrongError, op_id: &str) -> ApiError {
    let failed = failed(error).with_details(&serde_json::json!({ "op_id": op_id }));
    if failed.code != ErrorCode::Indeterminate {
        return failed;
    }
    failed.with_remedy("ask again with the same operation id: it is done once")
}

/// What there is to open an engine with.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// This daemon's region.
    pub region: &'a RegionId,
    /// Its data.
    pub data: &'a std::path::Path,
    /// Its certificate.
    pub credentials: &'a Credentials,
    /// Its clock.
    pub clock: &'a Arc<dyn Clock>,
}

/// An engine that is open.
#[derive(Debug)]
pub struct Engine {
    /// The engine.
    pub port: Arc<dyn StrongEngine>,
    /// The door for other daemons, where it is hosted here.
    pub door: Option<Routes>,
    /// What is known about it.
    pub view: Arc<EngineView>,
    /// Whether this daemon does for it what one daemon must do.
    pub is_keeper: bool,
}

impl Engine {
    /// Opens the engine. `reach` gives the client of a region's daemon.
    ///
    /// # Errors
    ///
    /// When its file or the certificate cannot be used.
    pub fn open(
        choice: EngineChoice<'_>,
        around: &Surroundings<'_>,
        reach: impl FnOnce(&RegionId) -> anyhow::Result<Client>,
    ) -> anyhow::Result<Self> {
        match choice {
            EngineChoice::Embedded { host } if host == around.region => {
                let file = around.data.join("strong.redb");
                let engine = EmbeddedEngine::open(&file, around.clock.clone())?;
                let port: Arc<dyn StrongEngine> = Arc::new(engine);
                let door = Some(engine_routes(port.clone()));
                Ok(Self { port, door, view: EngineView::embedded(host), is_keeper: true })
            }
            EngineChoice::Embedded { host } => {
                let port = Arc::new(RemoteEngine::new(reach(host)?));
                let view = EngineView::embedded(host);
                Ok(Self { port, door: None, view, is_keeper: false })
            }
            EngineChoice::Etcd(config) => Self::etcd(config, around),
        }
    }

    fn etcd(config: &EtcdConfig, around: &Surroundings<'_>) -> anyhow::Result<Self> {
        let members = members(config, around)?;
        let clock = around.clock.clone();
        let engine = Arc::new(EtcdEngine::new(members, &config.namespace, clock)?);
        let is_keeper = config.home == *around.region;
        let view = Arc::new(EngineView {
            kind: "etcd",
            home: config.home.clone(),
            etcd: Some((engine.clone(), config.clone())),
            members: Mutex::default(),
        });
        Ok(Self { port: engine, door: None, view, is_keeper })
    }
}

/// The members, those of the own region first.
fn members(
    config: &EtcdConfig,
    around: &Surroundings<'_>,
) -> anyhow::Result<Vec<MemberAddress>> {
    let mut voters: Vec<_> = config.voters.iter().collect();
    voters.sort_by_key(|voter| voter.region != *around.region);
    let member = |voter: &crate::config::VoterSpec| {
        let who = Identity::Engine(voter.region.clone());
        let server = ExpectedServer::Identity(who);
        let tls = ClientTls::load(around.credentials.clone(), server);
        Ok(MemberAddress {
            name: voter.name.clone(),
            host: voter.client.host().to_owned(),
            port: voter.client.port(),
            tls: tls.context("the certificate for the strong engine")?,
        })
    };
    voters.into_iter().map(member).collect()
}

/// What this daemon knows about the engine.
#[derive(Debug)]
pub struct EngineView {
    kind: &'static str,
    home: RegionId,
    etcd: Option<(Arc<EtcdEngine>, EtcdConfig)>,
    members: Mutex<Vec<MemberState>>,
}

impl EngineView {
    fn embedded(host: &RegionId) -> Arc<Self> {
        Arc::new(Self {
            kind: "embedded",
            home: host.clone(),
            etcd: None,
            members: Mutex::default(),
        })
    }

    /// Looks after the members, for ever; whoever keeps the engine brings the leader home.
    pub async fn run(self: Arc<Self>, is_keeper: bool) {
        let Some((engine, _)) = &self.etcd else { return std::future::pending().await };
        loop {
            let states = engine.survey().await;
            if is_keeper {
                self.bring_home(engine, &states).await;
            }
            let well = states.iter().all(|state| state.said.is_ok())
                && states.iter().any(MemberState::leads);
            *self.members.lock().unwrap_or_else(PoisonError::into_inner) = states;
            tokio::time::sleep(if well { LOOK_EVERY } else { LOOK_AGAIN }).await;
        }
    }

    /// Moves the leader to a member of the home region that has caught up with it.
    async fn bring_home(&self, engine: &EtcdEngine, states: &[MemberState]) {
        let Some(target) =
            homecomer(states, |name| self.region_of(name) == Some(&self.home))
        else {
            return;
        };
        match engine.move_leader(target).await {
            Ok(()) => info!(member = target.name, "the leader is moved home"),
            Err(reason) => warn!(%reason, member = target.name, "the leader stays away"),
        }
    }

    fn region_of(&self, member: &str) -> Option<&RegionId> {
        let (_, config) = self.etcd.as_ref()?;
        let voter = config.voters.iter().find(|voter| voter.name == member)?;
        Some(&voter.region)
    }

    /// The engine as it is shown.
    #[must_use]
    pub fn status(&self, mirror: &Mirror) -> EngineStatus {
        let states = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let members: Vec<_> =
            states.iter().filter_map(|state| self.member(state)).collect();
        let leader = members.iter().find(|member| member.leads);
        let leader = leader.map(|member| member.region.clone());
        EngineStatus {
            kind: self.kind.to_owned(),
            host: self.home.clone(),
            reachable: mirror.reachable(),
            revision: mirror.revision(),
            leader_at_home: leader.as_ref().map(|leader| *leader == self.home),
            leader,
            members,
        }
    }

    fn member(&self, state: &MemberState) -> Option<EngineMember> {
        let said = state.said.as_ref();
        Some(EngineMember {
            name: state.name.clone(),
            region: self.region_of(&state.name)?.clone(),
            endpoint: state.endpoint.clone(),
            answers: said.is_ok(),
            leads: state.leads(),
            version: said.ok().map(|said| said.version.clone()),
            problem: said.err().cloned(),
        })
    }
}

/// How many entries a member may be behind and still take over at once.
const BEHIND_MAX: u64 = 1_000;

/// The member to move the leader to: one at home that has caught up, when another leads.
fn homecomer(
    states: &[MemberState],
    at_home: impl Fn(&str) -> bool,
) -> Option<&MemberState> {
    let leader = states.iter().find(|state| state.leads())?;
    if at_home(&leader.name) {
        return None;
    }
    let ahead = leader.said.as_ref().ok()?;
    states.iter().filter(|state| at_home(&state.name)).find(|state| {
        state.said.as_ref().is_ok_and(|said| {
            said.leader == ahead.id
                && said.raft_index.saturating_add(BEHIND_MAX) >= ahead.raft_index
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_runtime::strong::etcd::Said;

    fn state(name: &str, id: u64, leader: u64, raft_index: u64) -> MemberState {
        let said = Said { id, leader, version: "3.4.23".to_owned(), size: 0, raft_index };
        MemberState { name: name.to_owned(), endpoint: String::new(), said: Ok(said) }
    }

    fn chosen(states: &[MemberState]) -> Option<&str> {
        homecomer(states, |name| name == "home").map(|state| state.name.as_str())
    }

    #[test]
    fn the_leader_is_brought_home_only_to_a_member_that_has_caught_up() {
        let away = state("away", 2, 2, 5_000);
        assert_eq!(chosen(&[state("home", 1, 2, 4_900), away.clone()]), Some("home"));
        assert_eq!(chosen(&[state("home", 1, 2, 100), away.clone()]), None, "far behind");
        assert_eq!(chosen(&[state("home", 1, 0, 5_000), away.clone()]), None, "cut off");
        let dead = MemberState { said: Err(String::new()), ..state("home", 1, 2, 0) };
        assert_eq!(chosen(&[dead, away]), None, "dead");
        assert_eq!(chosen(&[state("home", 1, 1, 5)]), None, "there already");
        assert_eq!(chosen(&[state("home", 1, 0, 5)]), None, "nobody leads");
    }
}
