//! How a member of the cluster is started: the command line of `etcd`, as a value.
//!
//! One place for tests, `./dwcp up` and system services, so that what is rehearsed is what
//! runs. Who may come in is held by TLS on both doors: the federation's CA, and a name in the
//! certificate that only daemons ([`CLIENT_NAME`]) or only members ([`PEER_NAME`]) carry. The
//! certificate of an agent or of a person is not enough.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::tls::Credentials;

/// The DNS name in the certificate of whoever may ask a member.
pub const CLIENT_NAME: &str = "engine-client.dwcp.internal";
/// The DNS name in the certificate of whoever may be a member.
pub const PEER_NAME: &str = "engine-member.dwcp.internal";
/// Most operations of etcd's transaction: ours, and an operation id.
pub const TXN_OPS_MAX: usize = 2 * super::super::OPS_MAX;
/// Largest request: a transaction of 1.5 MiB with its keys once more for the answer.
pub const REQUEST_LEN_MAX: usize = 4 << 20;

/// Past that is kept for watches to resume: at least this long.
const HISTORY: &str = "5m";
/// Largest database, in bytes: five minutes at 1,000 writes of 4 KiB a second, and as much.
const DATABASE_LEN_MAX: u64 = 4 << 30;
/// The file name of the program.
const PROGRAM: &str = "etcd";

/// How fast members notice that one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    heartbeat: Duration,
    election: Duration,
}

impl Timers {
    /// Of one machine or one site: etcd's own defaults.
    pub const LAN: Self =
        Self { heartbeat: Duration::from_millis(100), election: Duration::from_secs(1) };

    /// Of regions: a heartbeat each longest round trip, an election after six missed ones;
    /// never below [`Self::LAN`]. etcd advises ten and takes five: until there is a leader again
    /// no region's lease is renewed, and guests must not end for that (ADR 0014).
    #[must_use]
    pub fn wan(rtt_max: Duration) -> Self {
        let heartbeat = rtt_max.clamp(Self::LAN.heartbeat, Duration::from_secs(5));
        let least = Self::LAN.election;
        Self { heartbeat, election: heartbeat.saturating_mul(6).max(least) }
    }

    /// Time between two heartbeats.
    #[must_use]
    pub const fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Time without one until an election.
    #[must_use]
    pub const fn election(&self) -> Duration {
        self.election
    }
}

/// A voter: its name and where the others reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its name, given once in the cluster.
    pub name: String,
    /// Where daemons reach it, as `host:port`.
    pub client: String,
    /// Where members reach it, as `host:port`.
    pub peer: String,
}

/// Everything that a member is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which of the voters it is.
    pub name: String,
    /// All voters.
    pub voters: Vec<Voter>,
    /// Where its records are.
    pub data: PathBuf,
    /// Its certificate for both doors.
    pub credentials: Credentials,
    /// Keeps members of different clusters apart.
    pub token: String,
    /// How fast it notices.
    pub timers: Timers,
}

impl Setup {
    /// The arguments of `etcd`; nothing when it is none of the voters.
    #[must_use]
    pub fn args(&self) -> Option<Vec<String>> {
        let own = self.voters.iter().find(|voter| voter.name == self.name)?;
        let url = |endpoint: &str| format!("https://{endpoint}");
        let file = |path: &Path| path.display().to_string();
        let cluster: Vec<String> = self
            .voters
            .iter()
            .map(|voter| format!("{}={}", voter.name, url(&voter.peer)))
            .collect();
        let Credentials { ca, certificate, key } = &self.credentials;
        let flags = [
            ("name", self.name.clone()),
            ("data-dir", file(&self.data)),
            ("listen-client-urls", url(&own.client)),
            ("advertise-client-urls", url(&own.client)),
            ("listen-peer-urls", url(&own.peer)),
            ("initial-advertise-peer-urls", url(&own.peer)),
            ("initial-cluster", cluster.join(",")),
            ("initial-cluster-token", self.token.clone()),
            ("heartbeat-interval", self.timers.heartbeat.as_millis().to_string()),
            ("election-timeout", self.timers.election.as_millis().to_string()),
            ("pre-vote", "true".to_owned()),
            ("cert-file", file(certificate)),
            ("key-file", file(key)),
            ("trusted-ca-file", file(ca)),
            ("client-cert-auth", "true".to_owned()),
            ("client-cert-allowed-hostname", CLIENT_NAME.to_owned()),
            ("peer-cert-file", file(certificate)),
            ("peer-key-file", file(key)),
            ("peer-trusted-ca-file", file(ca)),
            ("peer-client-cert-auth", "true".to_owned()),
            ("peer-cert-allowed-hostname", PEER_NAME.to_owned()),
            // Who a member is, its name in the certificate says. Its source address says
            // nothing: it may have several, or be behind a translation.
            ("experimental-peer-skip-client-san-verification", "true".to_owned()),
            ("max-txn-ops", TXN_OPS_MAX.to_string()),
            ("max-request-bytes", REQUEST_LEN_MAX.to_string()),
            ("quota-backend-bytes", DATABASE_LEN_MAX.to_string()),
            ("auto-compaction-mode", "periodic".to_owned()),
            ("auto-compaction-retention", HISTORY.to_owned()),
            ("experimental-initial-corrupt-check", "true".to_owned()),
            // The doors of gRPC alone: nothing speaks JSON to it.
            ("enable-grpc-gateway", "false".to_owned()),
            ("logger", "zap".to_owned()),
            ("log-outputs", "stderr".to_owned()),
            ("log-level", "warn".to_owned()),
        ];
        Some(flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect())
    }
}

/// The program: in one of these folders, else on the `PATH`; nothing where it is not installed.
#[must_use]
pub fn program(folders: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = folders.iter().cloned().chain(env::split_paths(&path));
    all.map(|folder| folder.join(PROGRAM)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(name: &str) -> Setup {
        let voter = |name: &str, port: u16| Voter {
            name: name.to_owned(),
            client: format!("10.0.0.1:{port}"),
            peer: format!("10.0.0.1:{}", port + 1),
        };
        Setup {
            name: name.to_owned(),
            voters: vec![voter("a", 1), voter("b", 3)],
            data: "/data".into(),
            credentials: Credentials::in_dir(Path::new("/tls"), "engine"),
            token: "t".to_owned(),
            timers: Timers::LAN,
        }
    }

    #[test]
    fn a_member_is_started_by_its_own_addresses_and_all_peers() {
        let args = setup("b").args().unwrap();
        for wanted in [
            "--listen-client-urls=https://10.0.0.1:3",
            "--listen-peer-urls=https://10.0.0.1:4",
            "--initial-cluster=a=https://10.0.0.1:2,b=https://10.0.0.1:4",
            "--client-cert-auth=true",
            "--election-timeout=1000",
        ] {
            assert!(args.iter().any(|arg| arg == wanted), "{wanted}");
        }
        assert!(setup("c").args().is_none());
    }

    #[test]
    fn wan_timers_follow_the_longest_round_trip_within_what_etcd_takes() {
        let wan = |millis| Timers::wan(Duration::from_millis(millis));
        assert_eq!(wan(322).heartbeat(), Duration::from_millis(322));
        assert_eq!(wan(322).election(), Duration::from_millis(1_932));
        assert_eq!(wan(1), Timers::LAN);
        assert_eq!(wan(60_000).election(), Duration::from_secs(30));
    }
}
