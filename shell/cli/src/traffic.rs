//! A log of requests: read line by line, and counted by where they come from and what they ask.
//!
//! Addresses are counted by their network, /24 or /48: that is how finely a name server knows
//! them, and it makes a long log small.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dwcp_api::routing::{REPLAY_GROUPS_MAX, TrafficGroup};
use dwcp_router::Class;
use dwcp_types::ServiceId;

use crate::failure::Failure;

const HEADING: &str = "time,source,service,class";

/// A log that was read.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) groups: Vec<TrafficGroup>,
    /// From the first request to the last, in seconds.
    pub(crate) seconds: f64,
}

/// Reads a log. `name` is its name in messages.
///
/// # Errors
///
/// The first line that is none, with its number.
pub(crate) fn read(log: impl BufRead, name: &str) -> Result<Recorded, Failure> {
    let mut counts: BTreeMap<(String, Option<ServiceId>, Class), u64> = BTreeMap::new();
    let (mut first, mut last) = (f64::INFINITY, f64::NEG_INFINITY);
    let mut lines = log.lines().zip(1_u64..);
    let heading = lines.next().and_then(|(line, _)| line.ok()).unwrap_or_default();
    if heading.trim() != HEADING {
        let what = format!("{name}:1: it does not begin with its heading");
        return Err(Failure::usage(what)
            .with_remedy(format!("write `{HEADING}` in the first line")));
    }
    for (line, number) in lines {
        let wrong = |what: String| {
            Failure::usage(format!("{name}:{number}: {what}"))
                .with_remedy("for example `12.5,203.0.113.9,api.example.com,interactive`")
        };
        let line = line.map_err(|error| wrong(format!("it cannot be read: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let request = request(&line).map_err(wrong)?;
        (first, last) = (first.min(request.time), last.max(request.time));
        let key = (request.source, request.service, request.class);
        *counts.entry(key).or_default() += 1;
        if counts.len() > REPLAY_GROUPS_MAX {
            let what = format!("{name}: more than {REPLAY_GROUPS_MAX} kinds of requests");
            return Err(
                Failure::usage(what).with_remedy("replay parts of the log one by one")
            );
        }
    }
    if counts.is_empty() {
        return Err(Failure::usage(format!("{name} has no request")));
    }
    let group = |((source, service, class), requests)| TrafficGroup {
        source,
        service,
        class,
        requests,
    };
    let groups = counts.into_iter().map(group).collect();
    Ok(Recorded { groups, seconds: last - first })
}

struct Request {
    time: f64,
    source: String,
    service: Option<ServiceId>,
    class: Class,
}

fn request(line: &str) -> Result<Request, String> {
    let cells: Vec<&str> = line.split(',').map(str::trim).collect();
    let [time, source, service, class] = cells[..] else {
        return Err(format!("it has {} columns and not four", cells.len()));
    };
    let no_time = || format!("`{time}` is no time in seconds");
    let seconds: f64 = time.parse().map_err(|_| no_time())?;
    if !seconds.is_finite() {
        return Err(no_time());
    }
    if source.is_empty() {
        return Err("it has no source".to_owned());
    }
    let service = if service.is_empty() {
        None
    } else {
        Some(ServiceId::new(service).map_err(|error| error.to_string())?)
    };
    let class = if class.is_empty() {
        Class::default()
    } else {
        let known = Class::ALL.into_iter().find(|known| known.as_str() == class);
        known.ok_or_else(|| format!("`{class}` is no class"))?
    };
    Ok(Request { time: seconds, source: network(source), service, class })
}

/// The network of an address; a name as it is.
fn network(source: &str) -> String {
    match source.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => {
            Ipv4Addr::from_bits(address.to_bits() & 0xffff_ff00).to_string()
        }
        Ok(IpAddr::V6(address)) => {
            Ipv6Addr::from_bits((address.to_bits() >> 80) << 80).to_string()
        }
        Err(_) => source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(text: &str) -> Result<Recorded, Failure> {
        read(text.as_bytes(), "log.csv")
    }

    #[test]
    fn requests_are_counted_by_network_and_by_what_they_ask() {
        let log = "time,source,service,class\n\
                   10,203.0.113.9,api,bulk\n\
                   11.5,203.0.113.200,api,bulk\n\
                   \n\
                   40,london,,\n\
                   20,2001:db8:1:2::3,api,\n";
        let recorded = recorded(log).unwrap();
        assert!((recorded.seconds - 30.0).abs() < 1e-9);
        let groups: Vec<_> = recorded
            .groups
            .iter()
            .map(|group| (group.source.as_str(), group.class, group.requests))
            .collect();
        assert_eq!(
            groups,
            [
                ("2001:db8:1::", Class::Interactive, 1),
                ("203.0.113.0", Class::Bulk, 2),
                ("london", Class::Interactive, 1),
            ]
        );
    }

    #[test]
    fn a_line_that_is_none_is_told_with_its_number() {
        for (line, told) in [
            ("1,a,b", "log.csv:2: it has 3 columns"),
            ("x,a,b,bulk", "`x` is no time"),
            ("NaN,a,b,bulk", "is no time"),
            ("1,,b,bulk", "no source"),
            ("1,a,b c,bulk", "not a service id"),
            ("1,a,b,fast", "`fast` is no class"),
        ] {
            let log = format!("time,source,service,class\n{line}\n");
            let failure = recorded(&log).unwrap_err();
            let text = format!("{failure:?}");
            assert!(text.contains(told), "{line}: {text}");
        }
        assert!(recorded("1,a,b,bulk\n").is_err(), "no heading");
        assert!(recorded("time,source,service,class\n").is_err(), "no request");
    }
}
