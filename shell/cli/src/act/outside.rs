//! Services of others that the tool asks: where they are, what proves who asks, and their refusals.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dwcp_runtime::outside::{Answered, Outside, Question};

use crate::app::Run;
use crate::failure::{Failure, Kind};
use crate::text;

/// Time for one question when nothing is said.
const TIME_MAX: Duration = Duration::from_secs(30);

/// A service of others.
pub(super) struct Service {
    /// As it was named, without a slash at its end.
    pub(super) base: String,
    /// Its scheme and host, to which its paths are joined; they begin with its own.
    pub(super) origin: String,
    token: Option<String>,
    outside: Outside,
    time_max: Duration,
}

/// How a service is named on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    /// The option that names it.
    pub(super) option: &'static str,
    pub(super) url: &'a str,
    pub(super) token_file: Option<&'a Path>,
    pub(super) ca_file: Option<&'a Path>,
}

impl Service {
    /// Checks everything that can be wrong before anybody is asked.
    pub(super) fn open(run: &mut Run<'_>, named: Named<'_>) -> Result<Self, Failure> {
        let (base, origin) = address(named.option, named.url)?;
        let token = named.token_file.map(token).transpose()?;
        if token.is_some() && is_readable_by_others(&origin) {
            let note = "the token goes over the line as it is: the address is no https";
            run.terminal.note(note);
        }
        let outside = Outside::new(named.ca_file).map_err(|why| {
            Failure::usage(format!("--ca-file: {why}")).with_remedy("name a PEM file")
        })?;
        let time_max = run.global.timeout.unwrap_or(TIME_MAX);
        Ok(Self { base, origin, token, outside, time_max })
    }

    /// Asks below its address; with `json` by POST.
    pub(super) async fn ask(
        &self,
        path: &str,
        json: Option<&str>,
    ) -> Result<Answered, Failure> {
        let url = format!("{}{path}", self.base);
        let question = Question { url: &url, token: self.token.as_deref(), json };
        self.outside.ask(question, self.time_max).await.map_err(|why| {
            Failure::new(Kind::Unreachable, format!("{}: {why}", self.base)).with_remedy(
                "check the address, and --ca-file if its certificate is your own",
            )
        })
    }
}

fn address(option: &str, url: &str) -> Result<(String, String), Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!("{option} {}: {why}", text::plain(url)))
            .with_remedy("write it as https://HOST or https://HOST:PORT/PATH")
    };
    let base = url.trim_end_matches('/');
    let (scheme, rest) =
        base.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
    if !matches!(scheme, "http" | "https") {
        return Err(wrong("it is neither http nor https"));
    }
    let host = rest.split('/').next().unwrap_or_default();
    let strange = |c: char| c.is_control() || matches!(c, '?' | '#' | ' ');
    if host.is_empty() || rest.contains(strange) {
        return Err(wrong("it is no address of a server"));
    }
    if host.contains('@') {
        return Err(wrong("secrets do not belong into addresses; use --token-file"));
    }
    Ok((base.to_owned(), format!("{scheme}://{host}")))
}

/// Whether what is sent can be read on its way to another machine.
fn is_readable_by_others(origin: &str) -> bool {
    let Some(host) = origin.strip_prefix("http://") else { return false };
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    !matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

fn token(file: &Path) -> Result<String, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        let file = file.display().to_string();
        Failure::usage(format!("--token-file {}: {why}", text::plain(&file)))
            .with_remedy("write the token into a file, alone")
    };
    let text = fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let token = text.trim();
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(wrong(&"it holds no token"));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_in_the_clear_only_to_this_machine() {
        for (origin, readable) in [
            ("http://localhost:3000", false),
            ("http://127.0.0.1", false),
            ("http://[::1]:3000", false),
            ("http://grafana", true),
            ("http://localhost.example.com:80", true),
            ("https://grafana", false),
        ] {
            assert_eq!(is_readable_by_others(origin), readable, "{origin}");
        }
    }

    #[test]
    fn an_address_may_have_a_path_and_no_secrets() {
        let of = |url| address("--grafana", url).ok();
        let parts = |base: &str, origin: &str| Some((base.to_owned(), origin.to_owned()));
        assert_eq!(of("https://a:3/g/"), parts("https://a:3/g", "https://a:3"));
        for wrong in
            ["a:3", "ftp://a", "https://", "https://u:p@a", "http://a/?x", "http://a b"]
        {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
