//! Why a command did not do what it should: what is printed, and the exit code.
//!
//! One code for each thing that a script may want to do about it. What the service says is
//! passed on in its own words; certificate problems get this tool's advice, because only it
//! knows where its credentials come from.

use dwcp_api::{ApiError, CallError, ErrorCode};
use dwcp_types::RegionId;
use serde::Serialize;
use serde_json::Value;

use crate::terminal::{Terminal, Tone};
use crate::text;

/// What kind of failure, by what can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// It was tried and did not work.
    Failed,
    /// The command or what it names is written wrongly.
    Usage,
    /// It is understood and the answer is no.
    Refused,
    /// What was named does not exist.
    NotFound,
    /// It clashes with what is there.
    Conflict,
    /// The federation does not answer, or does not accept these credentials.
    Unreachable,
    /// It may or may not have been done.
    Indeterminate,
}

impl Kind {
    /// The exit code.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotFound => 4,
            Self::Conflict => 5,
            Self::Unreachable => 6,
            Self::Indeterminate => 7,
        }
    }
}

/// The exit codes as `--help` shows them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command is written wrongly
  3  refused: for example no region takes the VM
  4  what was named does not exist
  5  conflict: for example the name is taken
  6  the federation cannot be reached or does not accept the credentials
  7  indeterminate: it may or may not have been done; ask again with the same --token";

/// Why a command stops.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads the output any more; no error.
    Closed,
    /// Something to tell.
    Told(Box<Told>),
}

/// What is told about a failure.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    pub(crate) code: Kind,
    pub(crate) exit_code: u8,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<Value>,
    /// For people, instead of the details: already a table.
    #[serde(skip)]
    pub(crate) table: Option<String>,
}

impl Failure {
    /// A failure with what went wrong and where.
    pub(crate) fn new(code: Kind, message: impl Into<String>) -> Self {
        Self::Told(Box::new(Told {
            code,
            exit_code: code.exit_code(),
            message: message.into(),
            remedy: None,
            details: None,
            table: None,
        }))
    }

    /// A command that is written wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The same with what to do about it.
    pub(crate) fn with_remedy(self, remedy: impl Into<String>) -> Self {
        self.change(|told| told.remedy = Some(remedy.into()))
    }

    /// The same with a table for people, and a message that does not repeat the table.
    pub(crate) fn with_table(self, table: String, message: String) -> Self {
        self.change(|told| {
            told.table = Some(table);
            told.message = message;
        })
    }

    fn change(mut self, change: impl FnOnce(&mut Told)) -> Self {
        if let Self::Told(told) = &mut self {
            change(told);
        }
        self
    }

    /// What a call that has no reply means. `changes` says whether the operation changes
    /// something, so that a broken exchange leaves a doubt.
    pub(crate) fn of_call(error: CallError, changes: bool) -> Self {
        match error {
            CallError::Api(error) => Self::of_api(error),
            CallError::Unreachable { .. } => {
                Self::new(Kind::Unreachable, error.to_string()).with_remedy(
                    "check that the federation runs (`./dwcp up`) and the addresses in the `endpoints` file or --endpoint",
                )
            }
            CallError::Tls { reason } => of_tls(&reason),
            CallError::Protocol { url, reason } if is_certificate_alert(&reason) => {
                of_tls(&format!("{url} refused the TLS connection: {reason}"))
            }
            CallError::Timeout { .. } => {
                let doubt = if changes { "; it may have been carried out" } else { "" };
                Self::new(Kind::Unreachable, format!("{error}{doubt}"))
                    .with_remedy("try again, with a longer --timeout if the line is slow")
            }
            CallError::Protocol { .. } => {
                let kind = if changes { Kind::Indeterminate } else { Kind::Failed };
                Self::new(kind, error.to_string()).with_remedy(
                    "look what is there, then try again; check that a daemon of this federation answers at that address",
                )
            }
        }
    }

    fn of_api(error: ApiError) -> Self {
        let kind = match error.code {
            ErrorCode::Invalid => Kind::Usage,
            ErrorCode::Forbidden | ErrorCode::Internal => Kind::Failed,
            ErrorCode::NotFound => Kind::NotFound,
            ErrorCode::Conflict => Kind::Conflict,
            ErrorCode::Refused => Kind::Refused,
            ErrorCode::Busy | ErrorCode::Unavailable => Kind::Unreachable,
            ErrorCode::Indeterminate => Kind::Indeterminate,
        };
        Self::new(kind, error.message).change(|told| {
            told.remedy = error.remedy;
            told.details = error.details;
        })
    }

    /// The exit code.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Told(told) => told.exit_code,
        }
    }

    /// Whether what was named does not exist.
    pub(crate) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Told(told) if matches!(told.code, Kind::NotFound))
    }

    /// The regions that hold the key, when the one that answered does not.
    pub(crate) fn holders(&self) -> Vec<RegionId> {
        let Self::Told(told) = self else { return Vec::new() };
        let details = told.details.as_ref();
        let holders = details.and_then(|it| it.get("holders")?.as_array());
        let holders = holders.into_iter().flatten();
        holders.filter_map(|it| it.as_str()?.parse().ok()).collect()
    }

    /// Whether looking again later may help.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::Told(told)
            if matches!(told.code, Kind::Unreachable | Kind::Indeterminate))
    }
}

impl Told {
    /// Prints it for people.
    pub(crate) fn tell(&self, terminal: &mut Terminal) {
        if let Some(table) = &self.table {
            terminal.tell(table);
        }
        let error = Tone::Bad.paint("error:", terminal.colored());
        terminal.tell(&format!("{error} {}\n", text::lines_plain(&self.message)));
        if let Some(remedy) = &self.remedy {
            let help = Tone::Strong.paint("help:", terminal.colored());
            terminal.tell(&format!("{help} {}\n", text::lines_plain(remedy)));
        }
    }
}

/// TLS alerts by which a server says that it does not accept a certificate.
const CERTIFICATE_ALERTS: [&str; 8] = [
    "AccessDenied",
    "BadCertificate",
    "CertificateExpired",
    "CertificateRequired",
    "CertificateUnknown",
    "DecryptError",
    "UnknownCA",
    "UnsupportedCertificate",
];

/// Whether a broken exchange was the server's refusal of a certificate. In TLS 1.3 a client
/// learns of it only after its own part of the handshake, and HTTP/2 passes it on as text.
pub(crate) fn is_certificate_alert(reason: &str) -> bool {
    let alert =
        reason.split_once("received fatal alert: ").map(|(_, alert)| alert.trim());
    alert.is_some_and(|alert| CERTIFICATE_ALERTS.contains(&alert))
}

/// The runtime's text ends in advice for daemons; this tool's users renew by a command.
fn of_tls(reason: &str) -> Failure {
    let told = reason.rsplit_once("; ").map_or(reason, |(told, _)| told);
    let remedy = if told.contains("received fatal alert") {
        "the federation does not accept this certificate: renew it (`./dwcp renew`), or name the credentials of this federation (--credentials)"
    } else if told.contains("NotValidForName") || told.contains("not valid for name") {
        "another server answers at this address: check the `endpoints` file or --endpoint"
    } else if told.contains("Expired")
        || told.contains("NotValidYet")
        || told.contains("expired")
    {
        "the server's certificate is not valid now: restart its daemon, or set this machine's clock"
    } else {
        "the server's certificate was not issued by the CA in these credentials: name the credentials of that federation (--credentials), or check the address"
    };
    Failure::new(Kind::Unreachable, told).with_remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_exit_code_and_help_names_each() {
        let kinds = [
            Kind::Failed,
            Kind::Usage,
            Kind::Refused,
            Kind::NotFound,
            Kind::Conflict,
            Kind::Unreachable,
            Kind::Indeterminate,
        ];
        for (index, kind) in kinds.into_iter().enumerate() {
            assert_eq!(usize::from(kind.exit_code()), index + 1);
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", kind.exit_code())));
        }
    }
}
