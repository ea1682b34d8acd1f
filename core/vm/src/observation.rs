//! What a host sees of a VM at one moment: facts only, no memory of what was wanted.

use serde::{Deserialize, Serialize};

/// Whether the VM's disk is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// Nothing of the VM is on disk.
    #[default]
    Absent,
    /// There is a folder without a finished disk: a creation or a deletion was cut short.
    Partial,
    /// The disk is whole.
    Ready,
}

/// What QEMU says about its guest (the `RunState` of QMP). Unknown ones are kept apart, never
/// guessed (the list grows with each release of QEMU).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// The CPUs run.
    Running,
    /// Halted on request.
    Paused,
    /// Loaded and never run yet.
    Prelaunch,
    /// The guest asked for its own sleep (ACPI S3).
    Suspended,
    /// The guest powered off; the process waits to be told to go.
    Shutdown,
    /// The guest's kernel panicked and said so.
    GuestPanicked,
    /// The accelerator cannot go on.
    InternalError,
    /// A write to the disk image failed, for example because the host's disk is full.
    IoError,
    /// It waits for a guest that another host sends.
    #[serde(rename = "inmigrate")]
    InMigrate,
    /// Its guest is halted and its last state is being sent.
    FinishMigrate,
    /// Its guest was sent and is halted here.
    #[serde(rename = "postmigrate")]
    PostMigrate,
    /// Any other.
    #[serde(other)]
    Other,
}

/// What the process's monitor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monitor {
    /// Nobody is connected to it: the agent was restarted, or the connection broke.
    Detached,
    /// It is connected and did not answer in time.
    Silent,
    /// It answered.
    Says(RunState),
}

/// Whether the VM's process is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Process {
    /// It is not.
    #[default]
    Gone,
    /// It is, surely this VM's.
    Alive(Monitor),
}

/// What is seen of a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Its disk.
    pub storage: Storage,
    /// Its process.
    pub process: Process,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_states_are_read_as_qemu_writes_them() {
        for (text, state) in [
            ("running", RunState::Running),
            ("guest-panicked", RunState::GuestPanicked),
            ("io-error", RunState::IoError),
            ("finish-migrate", RunState::FinishMigrate),
            ("inmigrate", RunState::InMigrate),
            ("postmigrate", RunState::PostMigrate),
            ("invented-tomorrow", RunState::Other),
        ] {
            let read: RunState = serde_json::from_value(text.into()).unwrap();
            assert_eq!(read, state, "{text}");
        }
    }
}
