//! The trial of a failover: a VM's copy is started on the host that keeps it, connected to
//! nothing, while the VM runs elsewhere.

use dwcp_types::{CopyId, ReservationId, TenantId, Timestamp, VmId, VmShape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest that a trial may take, in seconds: as long as capacity may be held for it.
pub const TRIAL_SECONDS_MAX: u32 = 300;
/// How long one takes when nothing is said.
pub const TRIAL_SECONDS_DEFAULT: u32 = 120;
/// Longest text that is waited for, in bytes.
pub const TRIAL_EXPECT_MAX: usize = 256;

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialBody {
    /// Names the trial; its capacity is held under this id.
    pub id: ReservationId,
    /// Whose the VM is.
    pub tenant: TenantId,
    /// The copy; a later round is taken when that is whole by now.
    pub copy: CopyId,
    /// What its disk is as of; it has every acknowledged write when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// The size of the VM.
    pub shape: VmShape,
    /// The image's name; the host's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What the guest is to print on its console; it is only seen to run when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// After so many seconds all of it is gone.
    pub seconds: u32,
}

/// Which trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialParams {
    /// The VM.
    pub vm: VmId,
    /// The trial; whichever there is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ReservationId>,
}

/// How far a trial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrialStage {
    /// The copy is copied.
    Copying,
    /// The guest's process starts.
    Starting,
    /// The guest runs, and has not printed yet what it is to print.
    Running,
    /// The guest runs as it should.
    Passed,
    /// It did not; nothing of it is left.
    Failed,
}

/// A trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialReport {
    /// Which.
    pub id: ReservationId,
    /// What its disk is as of, or later; it has every acknowledged write when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// How far it is.
    pub stage: TrialStage,
    /// The copy that was taken; none yet while it is looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyId>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When the disk was there, in milliseconds after the trial began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_ms: Option<u64>,
    /// When the guest's process ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When the guest had printed what it was to print.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printed_ms: Option<u64>,
    /// The last of what it printed, up to 4 KiB.
    pub console: String,
    /// In so many milliseconds all of it is gone.
    pub ends_in_ms: u64,
}
