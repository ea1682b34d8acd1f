//! Routing for people: where a request goes, every region's score, the ways, the settings.

use dwcp_api::routing::{
    AnycastBfd, AnycastItem, AnycastReply, ReplayReply, RoutingAnswer, RoutingLatency,
    RoutingReply,
};
use dwcp_router::{Candidate, Chosen, LegView, Outcome, Weights};
use dwcp_types::{MicroUsd, RegionId};

use super::Look;
use crate::table::{Cell, Sheet, Table, row};
use crate::terminal::Tone;
use crate::text;

/// Where a request goes, and the regions.
pub(crate) fn routing_explained(answer: &RoutingAnswer, look: Look) -> String {
    let table = if look.wide { factors(answer, look) } else { scores(answer, look) };
    format!("{}\n{table}{}", routing_decision(answer, look), notes(&answer.notes))
}

/// Every region's score.
pub(crate) fn routing_scores(answer: &RoutingAnswer, look: Look) -> String {
    let table = if look.wide { factors(answer, look) } else { scores(answer, look) };
    format!("{table}{}", notes(&answer.notes))
}

/// Every region's score with what it is made of.
pub(crate) fn routing_factors(answer: &RoutingAnswer, look: Look) -> String {
    format!("{}{}", factors(answer, look), notes(&answer.notes))
}

/// Where a request goes.
pub(crate) fn routing_decision(answer: &RoutingAnswer, look: Look) -> String {
    let (why, chosen) = (&answer.explanation, &answer.explanation.decision);
    let mut sheet = Sheet::default();
    sheet.line("Request", format!("{} ({})", why.service, text::word(&why.class)));
    sheet.line("Client", &answer.client);
    let region = chosen.region.as_ref();
    let tone = if chosen.meets { Tone::Good } else { Tone::Bad };
    let place = region.map_or_else(|| "nowhere".to_owned(), ToString::to_string);
    sheet.line("Goes to", Cell::toned(place, tone));
    if let Some(endpoint) = &answer.endpoint {
        sheet.line("Endpoint", format!("{}:{}", endpoint.ip, endpoint.port));
    }
    let candidate = why.candidates.iter().find(|c| Some(&c.region) == region);
    if let Some(candidate) = candidate {
        sheet.line("Way", way(chosen, &candidate.way));
        sheet.line(
            "Cost",
            format!("{} a million", text::money(candidate.cost_per_million)),
        );
    }
    sheet.line("Then", text::listed(&chosen.fallbacks));
    sheet.line("Keep for", format!("{} s", chosen.ttl_s));
    sheet.line("Meets limits now", text::yes(chosen.meets));
    if !chosen.failed.is_empty() {
        sheet.line("Breaks", text::listed(chosen.failed.iter().map(text::word)));
    }
    sheet.line("Ranked by", text::word(&why.algorithm));
    sheet.line("Because", text::listed(chosen.reasons.iter().map(text::word)));
    let age = text::age_ms(Some(answer.table_age_ms));
    let table = format!("{} of {}, {age} old", why.generation, answer.answered_by);
    sheet.line("Table", table);
    sheet.render(look.colored)
}

fn way(chosen: &Chosen, leg: &LegView) -> String {
    let by = match &chosen.via {
        Some(relay) => format!("by {relay}"),
        None => "direct".to_owned(),
    };
    let straight = match &chosen.via {
        Some(_) => {
            format!(" (direct {})", text::latency_or_unknown(leg.direct_rtt))
        }
        None => String::new(),
    };
    let rtt = text::latency_or_unknown(leg.rtt);
    format!("{by}, {rtt}{straight}, {} of it known and not guessed", leg.measured)
}

fn scores(answer: &RoutingAnswer, look: Look) -> String {
    let mut table =
        Table::new(&["REGION", ">SCORE", ">SHARE", ">ROUND TRIP", "BY", "AGAINST IT"]);
    for candidate in &answer.explanation.candidates {
        table.push(row![
            &candidate.region,
            text::points(candidate.score),
            candidate.share,
            text::latency_or_unknown(candidate.way.rtt),
            by(&candidate.way),
            against(candidate),
        ]);
    }
    table.render(look.colored)
}

fn factors(answer: &RoutingAnswer, look: Look) -> String {
    let why = &answer.explanation;
    let named = why.candidates.first().map_or(&[][..], |first| &first.factors[..]);
    let heads: Vec<String> = named
        .iter()
        .map(|part| {
            let name = text::word(&part.factor).to_uppercase();
            format!(">{name} x{}", text::points(part.weight))
        })
        .collect();
    let mut all = vec!["REGION", ">SCORE"];
    all.extend(heads.iter().map(String::as_str));
    all.extend([">SHARE", ">ROUND TRIP", "BY", ">COST/M", ">LOAD AGE", "AGAINST IT"]);
    let mut table = Table::new(&all);
    for candidate in &why.candidates {
        let mut row = row![&candidate.region, text::points(candidate.score)];
        let parts = candidate.factors.iter();
        row.extend(parts.map(|part| Cell::from(text::points(part.value))));
        row.extend(row![
            candidate.share,
            text::latency_or_unknown(candidate.way.rtt),
            by(&candidate.way),
            text::money(candidate.cost_per_million),
            candidate
                .load_age_ms
                .map_or_else(|| text::UNKNOWN.to_owned(), |age| text::age_ms(Some(age))),
            against(candidate),
        ]);
        table.push(row);
    }
    table.render(look.colored)
}

fn by(leg: &LegView) -> String {
    leg.via.as_ref().map_or_else(|| "direct".to_owned(), ToString::to_string)
}

fn against(candidate: &Candidate) -> Cell {
    let words = candidate.refused.iter().map(text::word);
    let tone = if candidate.refused.is_empty() { Tone::Plain } else { Tone::Bad };
    Cell::toned(text::listed(words), tone)
}

/// The ways between places.
pub(crate) fn routing_latency(reply: &RoutingLatency, look: Look) -> String {
    let mut regions: Vec<String> = reply
        .rows
        .iter()
        .flat_map(|row| row.to.keys())
        .map(ToString::to_string)
        .collect();
    regions.sort();
    regions.dedup();
    let heads: Vec<String> =
        regions.iter().map(|region| format!(">{}", region.to_uppercase())).collect();
    let mut all = vec!["FROM"];
    all.extend(heads.iter().map(String::as_str));
    let mut table = Table::new(&all);
    for place in &reply.rows {
        let kind = if place.is_region { "" } else { " (users)" };
        let mut row = row![format!("{}{kind}", place.from)];
        for region in &regions {
            let leg = place.to.iter().find(|(id, _)| id.as_str() == region.as_str());
            row.push(Cell::from(
                leg.map_or_else(String::new, |(_, leg)| round_trip(leg)),
            ));
        }
        table.push(row);
    }
    format!("{}{}", table.render(look.colored), notes(&reply.notes))
}

/// Shared addresses.
pub(crate) fn routing_anycast(reply: &AnycastReply, look: Look) -> String {
    let mut heads = vec!["GROUP", "ADDRESS", "REGION", "ANNOUNCED", "ROUTER", "BFD"];
    heads.extend(look.wide.then_some("BFD FAILED"));
    heads.push("WHY");
    let mut table = Table::new(&heads);
    for item in &reply.items {
        let mut row = row![
            item.group.as_str(),
            item.address.to_string(),
            item.region.as_str(),
            announced(item),
            item.router.as_str(),
            item.bfd.as_ref().map_or_else(|| Cell::from("off"), bfd),
        ];
        if look.wide {
            row.push(Cell::from(item.bfd.as_ref().map_or_else(String::new, failures)));
        }
        row.push(Cell::from(item.why.as_str()));
        table.push(row);
    }
    let mut shown = if reply.items.is_empty() {
        "no region shares an address: see `routing.anycast` of federation.yaml\n"
            .to_owned()
    } else {
        table.render(look.colored)
    };
    for (region, warning) in
        reply.items.iter().filter_map(|item| Some((&item.region, item.warning.as_ref()?)))
    {
        shown += &format!("warning: {region}: {}\n", text::plain(warning));
    }
    let regions: Vec<&str> = reply.missing.iter().map(RegionId::as_str).collect();
    if !regions.is_empty() {
        shown += &format!("not told by {}\n", regions.join(", "));
    }
    shown
}

fn announced(item: &AnycastItem) -> Cell {
    match (&item.reason, item.announced, item.wanted) {
        (_, true, true) => Cell::toned("yes", Tone::Good),
        (_, true, false) => Cell::toned("leaving", Tone::Warn),
        (Some(reason), false, _) => Cell::toned(format!("no: {reason}"), Tone::Bad),
        (None, false, true) => Cell::toned("not yet", Tone::Warn),
        (None, false, false) => Cell::from("no"),
    }
}

/// How the way to a router stands: where it is up, with the pause and the silence that were agreed on.
fn bfd(bfd: &AnycastBfd) -> Cell {
    let hears = bfd.remote_state.is_some();
    match (&bfd.reason, bfd.state.as_str(), bfd.transmit_ms, bfd.detection_ms) {
        (Some(reason), ..) => Cell::toned(format!("no: {reason}"), Tone::Bad),
        (None, "up", Some(pause), Some(silence)) => {
            Cell::toned(format!("up, {pause} ms, gone after {silence} ms"), Tone::Good)
        }
        (None, state, ..) if hears => Cell::toned(state, Tone::Bad),
        (None, state, ..) => Cell::toned(format!("{state}: nothing is heard"), Tone::Bad),
    }
}

/// How often a way failed, and why it did last.
fn failures(bfd: &AnycastBfd) -> String {
    let why = match (&bfd.diagnostic, &bfd.remote_diagnostic) {
        (Some(own), Some(other)) => format!(": {own} (the router: {other})"),
        (Some(own), None) => format!(": {own}"),
        (None, Some(other)) => format!(": (the router: {other})"),
        (None, None) => String::new(),
    };
    let dropped = match bfd.discarded {
        0 => String::new(),
        count => format!(", {} packets dropped", text::count(count)),
    };
    format!("{} times{why}{dropped}", text::count(bfd.failures))
}

/// A round trip, with how it is known where it is not simply measured.
fn round_trip(leg: &LegView) -> String {
    let rtt = text::latency_or_unknown(leg.rtt);
    match &leg.via {
        Some(relay) => format!("{rtt} by {relay}"),
        None if leg.rtt.is_some() && leg.measured.get() == 0 => {
            format!("{rtt} (guessed)")
        }
        None => rtt,
    }
}

/// Two policies over the same requests. `seconds` is how long they took to come.
pub(crate) fn routing_replay(reply: &ReplayReply, seconds: f64, look: Look) -> String {
    let (now, then) = (&reply.now, &reply.then);
    let other = format!(">{}", text::word(&reply.algorithm).to_uppercase());
    let mut table = Table::new(&["WHAT", ">NOW", &other]);
    let mut line = |name: &str, of: &dyn Fn(&Outcome) -> String| {
        table.push(row![name, of(now), of(then)]);
    };
    line("requests", &|outcome| text::count(outcome.requests));
    line("round trip, mean", &|outcome| text::latency_or_unknown(outcome.latency_mean));
    line("round trip, p95", &|outcome| text::latency_or_unknown(outcome.latency_p95));
    line("cost", &|outcome| usd(outcome.cost_nano_usd));
    line("cost a day", &|outcome| per_day(outcome.cost_nano_usd, seconds));
    line("break a limit", &|outcome| text::count(outcome.broken));
    line("go nowhere", &|outcome| text::count(outcome.nowhere));
    line("round trip unknown", &|outcome| text::count(outcome.unknown));
    let mut regions: Vec<_> = now.by_region.keys().chain(then.by_region.keys()).collect();
    regions.sort();
    regions.dedup();
    for region in regions {
        let of = |outcome: &Outcome| {
            text::count(outcome.by_region.get(region).copied().unwrap_or(0))
        };
        line(&format!("to {region}"), &of);
    }
    format!("{}{}", table.render(look.colored), notes(&reply.notes))
}

fn usd(nano: u64) -> String {
    text::money(MicroUsd::new(nano / 1_000))
}

/// The same for as long as a day; nothing for requests that came at one moment.
fn per_day(nano: u64, seconds: f64) -> String {
    if seconds <= 0.0 {
        return text::UNKNOWN.to_owned();
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "money for the eye; what is too much becomes the most there is"
    )]
    let micros = (nano as f64 / 1e3 * 86_400.0 / seconds) as u64;
    text::money(MicroUsd::new(micros))
}

/// Where regions answer.
pub(crate) fn routing_endpoints(reply: &RoutingReply, look: Look) -> String {
    let mut table =
        Table::new(&["REGION", "IP", "IPV6", ">PORT", ">CAPACITY", ">WEIGHT", "SET BY"]);
    for item in &reply.endpoints {
        let (mut row, capacity) = (row![&item.region], item.capacity.to_string());
        match &item.endpoint {
            Some(endpoint) => row.extend(row![
                endpoint.ip,
                endpoint.ipv6.map_or_else(|| "-".to_owned(), |ip| ip.to_string()),
                endpoint.port,
                capacity,
                format!("{} %", endpoint.weight),
                if item.set_live { "operator" } else { "file" },
            ]),
            None => row.extend(row!["-", "-", "-", capacity, "100 %", "-"]),
        }
        table.push(row);
    }
    table.render(look.colored)
}

/// The settings in use.
pub(crate) fn routing_config(reply: &RoutingReply, look: Look) -> String {
    let mut sheet = Sheet::default();
    let source = if reply.chosen_live { "an operator" } else { "the file" };
    let algorithm = text::word(&reply.algorithm);
    sheet.line("Algorithm", format!("{algorithm}, chosen by {source}"));
    if let Some(own) = &reply.weights {
        sheet.line("Weights", weights(own));
    }
    match &reply.table {
        Some(table) => sheet.line(
            "Table",
            format!(
                "{} of {}, {} answers, {} old, made in {}",
                table.generation,
                reply.answered_by,
                text::count(table.answers),
                text::age_ms(Some(table.age_ms)),
                text::span_us(table.took_us)
            ),
        ),
        None => sheet.line("Table", Cell::toned("none yet", Tone::Bad)),
    };
    for problem in &reply.refused {
        sheet.line("Refused", Cell::toned(problem, Tone::Bad));
    }
    let mut table = Table::new(&[
        "SERVICE",
        "ALGORITHM",
        "REGIONS",
        "RESIDENCY",
        "PROTOCOL",
        "FAIL",
        "STICKY",
        ">TTL",
    ]);
    for service in &reply.services {
        let regions = text::listed(&service.regions);
        table.push(row![
            &service.id,
            text::word(&service.algorithm),
            if service.regions.is_empty() { "all".to_owned() } else { regions },
            text::listed(&service.residency),
            text::word(&service.protocol),
            text::word(&service.fail),
            text::yes(service.sticky),
            format!("{} s", service.ttl_s),
        ]);
    }
    let (sheet, table) = (sheet.render(look.colored), table.render(look.colored));
    let endpoints = routing_endpoints(reply, look);
    format!("{sheet}\n{table}\n{endpoints}{}", notes(&reply.notes))
}

fn weights(weights: &Weights) -> String {
    let parts = dwcp_router::Factor::ALL.into_iter().zip(weights.0);
    let counting = parts.filter(|(_, weight)| *weight > 0);
    text::listed(counting.map(|(factor, weight)| {
        format!("{} {}.{:02} %", text::word(&factor), weight / 100, weight % 100)
    }))
}

fn notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("note: {}\n", text::plain(note))).collect()
}
