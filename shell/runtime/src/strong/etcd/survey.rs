//! What the members say of themselves, and who should lead.
//!
//! Asked of each member alone, without its leader: also when there is no majority, it is seen
//! who lives.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::member::{Member, describe};
use super::members::Members;
use super::proto::{
    Empty, MoveLeaderCall, MoveLeaderRequest, StatusCall, StatusResponse, unsigned,
};

/// How long a member may take to speak of itself.
const STATUS_TIME_MAX: Duration = Duration::from_secs(2);
/// How long it may take to hand over: etcd gives the target two election times, at most 4 s
/// on the longest WAN.
const MOVE_TIME_MAX: Duration = Duration::from_secs(8);

/// A member as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState {
    /// The name that it was given.
    pub name: String,
    /// Where it is asked.
    pub endpoint: String,
    /// What it says, or why it says nothing.
    pub said: Result<Said, String>,
}

/// What a member says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its number.
    pub id: u64,
    /// The number of the leader that it knows; zero when it knows none.
    pub leader: u64,
    /// Its version.
    pub version: String,
    /// Bytes of its database.
    pub size: u64,
    /// How far its log is.
    pub raft_index: u64,
}

impl MemberState {
    /// Whether it leads, by its own word.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.said.as_ref().is_ok_and(|said| said.id == said.leader)
    }
}

/// Why the leader was not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leader of etcd cannot be moved: {0}")]
pub struct MoveError(String);

/// Asks all members at once.
pub(super) async fn survey(members: &Members) -> Vec<MemberState> {
    join_all(members.iter().map(|member| state(member))).await
}

async fn state(member: &Member) -> MemberState {
    let deadline = Instant::now() + STATUS_TIME_MAX;
    let said = member.call::<StatusCall>(&Empty {}, deadline).await;
    MemberState {
        name: member.name().to_owned(),
        endpoint: member.authority().to_owned(),
        said: said.map(Said::from).map_err(|failure| describe(&failure)),
    }
}

impl From<StatusResponse> for Said {
    fn from(status: StatusResponse) -> Self {
        Self {
            id: status.header.unwrap_or_default().member_id,
            leader: status.leader,
            version: status.version,
            size: unsigned(status.db_size),
            raft_index: status.raft_index,
        }
    }
}

/// Asks the member that leads to hand over; only that one can.
pub(super) async fn move_leader(
    members: &Members,
    target: &MemberState,
) -> Result<(), MoveError> {
    let target = target.said.as_ref().map_err(|reason| MoveError(reason.clone()))?;
    let states = survey(members).await;
    let leader = members.iter().zip(&states).find(|(_, state)| state.leads());
    let (leader, _) = leader.ok_or_else(|| MoveError("nobody leads".to_owned()))?;
    let deadline = Instant::now() + MOVE_TIME_MAX;
    let request = MoveLeaderRequest { target_id: target.id };
    let moved = leader.call::<MoveLeaderCall>(&request, deadline).await;
    moved.map(|_| ()).map_err(|failure| MoveError(describe(&failure)))
}
