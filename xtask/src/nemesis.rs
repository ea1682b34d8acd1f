//! The nemesis' entry: pairs of faults against a whole federation on this machine, one line a
//! pair, and exit code 1 when a promise was broken. Needs root, etcd and libfaketime.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::Args;
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_testbed::nemesis::{self, Campaign, Kind, QUICK, Span};

/// What to run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many rounds; each has all pairs, on a federation of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// The first round, to see one again.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    first: u32,
    /// What everything is chosen by; the time when absent. It is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these pairs, such as kill+freeze; all 28 when absent.
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    pairs: Vec<(Kind, Kind)>,
    /// Two pairs, none of them held for long.
    #[arg(long)]
    quick: bool,
}

fn pair(text: &str) -> Result<(Kind, Kind), String> {
    let (one, other) = text.split_once('+').ok_or_else(|| {
        format!("{text:?} is no pair; write two faults, such as kill+freeze")
    })?;
    let (one, other): (Kind, Kind) = (one.parse()?, other.parse()?);
    // As they are drawn: a pair has no order.
    Ok((one.min(other), one.max(other)))
}

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if let Err(missing) = nemesis::missing() {
        bail!(missing);
    }
    crate::programs::build()?;
    let campaign = options.campaign();
    println!(
        "seed {}: rounds {} to {}, {} pairs each",
        campaign.seed,
        campaign.first,
        campaign.first.saturating_add(campaign.rounds - 1),
        campaign.pairs.len()
    );
    let summary = nemesis::run(&campaign, &|line| println!("{line}"));
    let summary = summary.map_err(|missing| anyhow!(missing))?;
    println!("{}", summary.text());
    Ok(if summary.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Options {
    fn campaign(&self) -> Campaign {
        let pairs = match (self.pairs.is_empty(), self.quick) {
            (false, _) => self.pairs.clone(),
            (true, true) => QUICK.to_vec(),
            (true, false) => nemesis::all_pairs(),
        };
        Campaign {
            first: self.first,
            rounds: self.rounds,
            seed: self.seed.unwrap_or_else(|| SystemClock::new().now().as_millis()),
            pairs,
            hold: if self.quick { Span::SHORT } else { Span::USUAL },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_no_order_and_a_wrong_one_says_what_there_is() {
        assert_eq!(pair("freeze+kill"), Ok((Kind::Kill, Kind::Freeze)));
        assert!(pair("kill").unwrap_err().contains("kill+freeze"));
        assert!(pair("kill+flood").unwrap_err().contains("two-way"));
    }
}
