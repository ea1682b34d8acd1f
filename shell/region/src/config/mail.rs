//! Reads the block `monitoring.mail`: who is told of incidents by mail, and by which server.

use std::net::IpAddr;
use std::path::PathBuf;

use dwcp_monitor::incident::Severity;
use dwcp_runtime::mail::{Address, Security, Server};
use serde::Serialize;

use super::endpoint::Endpoint;
use super::field::Field;
use super::monitoring::{SEVERITIES, file, wanted};
use super::problem::Report;
use super::section::Section;

const KEYS: &[&str] = &[
    "server",
    "from",
    "to",
    "tls",
    "username",
    "password_file",
    "ca_file",
    "min_severity",
];
const TLS: [(&str, Security); 3] =
    [("starttls", Security::StartTls), ("tls", Security::Tls), ("none", Security::None)];
/// Most addresses: whoever wants more has a list at their server.
const ADDRESSES_MAX: usize = 8;
/// Longest name at a server.
const USERNAME_LEN_MAX: usize = 254;

/// Who is told by mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MailSpec {
    /// Where letters are handed over.
    pub server: Server,
    /// Whose they are.
    pub from: Address,
    /// Who gets one each.
    pub to: Vec<Address>,
    /// As whom, and the file with the secret.
    pub login: Option<(String, PathBuf)>,
    /// A file with the certificates that the server is trusted by; the system's without.
    pub ca_file: Option<PathBuf>,
    /// They are told of nothing less severe.
    pub min_severity: Severity,
}

/// Reads the block.
pub(super) fn mail(field: Field<'_>, report: &mut Report<'_>) -> Option<MailSpec> {
    let section = Section::open(field.node, "`mail`", KEYS, report)?;
    let server = server(&section, report);
    let from = section
        .need("from", "dwcp@example.com", report)
        .and_then(|field| address(&field, report));
    let to = section
        .need("to", "[ops@example.com]", report)
        .and_then(|field| addresses(field, report));
    let login = login(&section, report);
    let ca_file = section.get("ca_file").map(|field| file(field, report));
    let min_severity = section
        .get("min_severity")
        .map_or(Some(Severity::Low), |field| field.choice(&SEVERITIES, report));
    Some(MailSpec {
        server: server?,
        from: from?,
        to: to?,
        login: login?,
        ca_file: wanted(ca_file)?,
        min_severity: min_severity?,
    })
}

fn server(section: &Section<'_>, report: &mut Report<'_>) -> Option<Server> {
    let field = section.need("server", "smtp.example.com:587", report);
    let tls = section.get("tls");
    let security =
        tls.as_ref().map_or(Some(Security::StartTls), |field| field.choice(&TLS, report));
    let field = field?;
    let text = field.text(report)?;
    let endpoint: Endpoint = match text.parse() {
        Ok(endpoint) => endpoint,
        Err(error) => {
            let reason = format!("`server` is no place of a server: {error}");
            report.error(
                field.at(),
                reason,
                "for example `server: smtp.example.com:587`",
            );
            return None;
        }
    };
    let security = security?;
    if security == Security::None && !is_loopback(endpoint.host()) {
        let at = tls.as_ref().map_or_else(|| field.at(), Field::at);
        let reason = "without TLS everybody on the way reads incidents";
        let help = "write `starttls` or `tls`; `none` is for a server on this machine";
        report.error(at, reason, help);
        return None;
    }
    let host = endpoint.host().to_owned();
    Some(Server { host, port: endpoint.port(), security })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn address(field: &Field<'_>, report: &mut Report<'_>) -> Option<Address> {
    let text = field.text(report)?;
    match text.parse() {
        Ok(address) => Some(address),
        Err(error) => {
            let error: dwcp_runtime::mail::AddressError = error;
            let reason = format!("{text:?} is no address");
            report.error(field.at(), reason, error.to_string());
            None
        }
    }
}

fn addresses(field: Field<'_>, report: &mut Report<'_>) -> Option<Vec<Address>> {
    let items = field.list(1..=ADDRESSES_MAX, report)?;
    let read: Vec<_> = items.iter().map(|item| address(item, report)).collect();
    let read: Vec<Address> = read.into_iter().collect::<Option<_>>()?;
    for (item, (place, to)) in items.iter().zip(read.iter().enumerate()) {
        if read.iter().take(place).any(|before| before == to) {
            let reason = format!("{} is there twice", to.as_str());
            report.error(item.at(), reason, "leave one of the two out");
            return None;
        }
    }
    Some(read)
}

/// A name and a secret, or neither.
#[expect(
    clippy::option_option,
    reason = "none wanted, wanted and wrong, wanted and right"
)]
fn login(
    section: &Section<'_>,
    report: &mut Report<'_>,
) -> Option<Option<(String, PathBuf)>> {
    match (section.get("username"), section.get("password_file")) {
        (None, None) => Some(None),
        (Some(name), Some(secret)) => {
            let username = name.text(report).map(str::to_owned);
            let path = file(secret, report);
            let username = username?;
            if username.len() > USERNAME_LEN_MAX || username.chars().any(char::is_control)
            {
                let wanted = format!("a name of at most {USERNAME_LEN_MAX} bytes");
                return name.refuse(wanted, "it is told to the server", report);
            }
            Some(Some((username, path?)))
        }
        (Some(field), None) | (None, Some(field)) => {
            let reason = "`username` and `password_file` belong together";
            report.error(field.at(), reason, "write both, or neither");
            None
        }
    }
}
