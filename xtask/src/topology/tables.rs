//! The tables that the examples are made from, and the few questions they are asked.

use std::path::Path;

use anyhow::{Context, anyhow};

/// Hours in the month that prices are quoted for.
const HOURS_PER_MONTH: f64 = 730.0;
/// The machine family that prices are fitted to: the newest with three shapes of memory.
const FAMILY: &str = "n2-";

/// All tables, as rows of fields without their heads.
#[derive(Debug)]
pub(super) struct Tables {
    wan: Vec<Vec<String>>,
    zones: Vec<Vec<String>>,
    regions: Vec<Vec<String>>,
    prices: Vec<Vec<String>>,
    egress: Vec<Vec<String>>,
}

/// What a region charges, in US dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Price {
    pub(super) cpu_hour: f64,
    pub(super) memory_gib_hour: f64,
}

impl Tables {
    pub(super) fn load(folder: &Path) -> anyhow::Result<Self> {
        let table = |name: &str| {
            let file = folder.join(name);
            let text = std::fs::read_to_string(&file).with_context(|| {
                format!("cannot read {}; name their folder by --data", file.display())
            })?;
            anyhow::Ok(text.lines().skip(1).map(fields).collect::<Vec<_>>())
        };
        Ok(Self {
            wan: table("wan_rtt_ms.csv")?,
            zones: table("az_rtt_ms.csv")?,
            regions: table("cloud_regions.csv")?,
            prices: table("vm_prices.csv")?,
            egress: table("egress_usd_per_gb.csv")?,
        })
    }

    /// Mean round trip between two metros in milliseconds; within one, `zones` begins the
    /// names of its zones, and it is the mean between two different ones.
    pub(super) fn rtt(&self, from: &str, to: &str, zones: &str) -> anyhow::Result<f64> {
        if from != to {
            let row = self.wan.iter().find(|row| row[0] == from && row[1] == to);
            return number(row, 2, || format!("no round trip from {from} to {to}"));
        }
        let within = |row: &&Vec<String>| {
            row[0].starts_with(zones) && row[1].starts_with(zones) && row[0] != row[1]
        };
        let mut sum = 0.0;
        let mut count = 0.0;
        for row in self.zones.iter().filter(within) {
            sum += number(Some(row), 2, String::new)?;
            count += 1.0;
        }
        if count < 1.0 {
            return Err(anyhow!("no zones that begin with {zones}"));
        }
        Ok((sum / count * 100.0).round() / 100.0)
    }

    /// Latitude and longitude of the first site of a provider's region.
    pub(super) fn place(&self, place: (&str, &str)) -> anyhow::Result<(f64, f64)> {
        let (provider, region) = place;
        let row = self.regions.iter().find(|row| row[0] == provider && row[1] == region);
        let missing = || format!("no coordinates of {provider} {region}");
        Ok((number(row, 5, missing)?, number(row, 6, missing)?))
    }

    /// Price of a transfer from a region to the Internet, in US dollars for a GB.
    pub(super) fn egress(&self, region: &str) -> anyhow::Result<f64> {
        let row = self.egress.iter().find(|row| row[0] == region && row[1] == "internet");
        number(row, 2, || format!("no egress price of {region}"))
    }

    /// Price of a CPU and of a GiB that together fit the machines of one family best, by
    /// least squares on `usd_per_month` (the hourly column is rounded to cents).
    pub(super) fn price(&self, region: &str) -> anyhow::Result<Price> {
        let (mut cc, mut cm, mut mm, mut cp, mut mp) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let of_family =
            |row: &&Vec<String>| row[0].starts_with(FAMILY) && row[3] == region;
        for row in self.prices.iter().filter(of_family) {
            let cpu = number(Some(row), 1, String::new)?;
            let memory = number(Some(row), 2, String::new)?;
            let price = number(Some(row), 5, String::new)? / HOURS_PER_MONTH;
            cc += cpu * cpu;
            cm += cpu * memory;
            mm += memory * memory;
            cp += cpu * price;
            mp += memory * price;
        }
        let determinant = cc * mm - cm * cm;
        if determinant <= 0.0 {
            return Err(anyhow!("no two different machines of {FAMILY} in {region}"));
        }
        Ok(Price {
            cpu_hour: (cp * mm - mp * cm) / determinant,
            memory_gib_hour: (mp * cc - cp * cm) / determinant,
        })
    }
}

fn number(
    row: Option<&Vec<String>>,
    column: usize,
    missing: impl Fn() -> String,
) -> anyhow::Result<f64> {
    let text = row.and_then(|row| row.get(column)).with_context(&missing)?;
    text.parse().with_context(|| format!("{text:?} is no number: {row:?}"))
}

/// The fields of a line of CSV; quotes keep commas together.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match (c, quoted, fields.last_mut()) {
            ('"', _, _) => quoted = !quoted,
            (',', false, _) | (_, _, None) => fields.push(String::new()),
            (c, _, Some(last)) => last.push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Vec<String>> {
        text.lines().map(fields).collect()
    }

    #[test]
    fn quotes_keep_a_comma_in_its_field() {
        assert_eq!(fields("a,\"b, c\",d"), ["a", "b, c", "d"]);
    }

    #[test]
    fn prices_that_are_made_of_two_parts_are_taken_apart_again() {
        // 0.03 a CPU and 0.004 a GiB, by the month.
        let line = |name: &str, cpu: f64, memory: f64| {
            let month = (0.03 * cpu + 0.004 * memory) * HOURS_PER_MONTH;
            format!("{name},{cpu},{memory},r,0,{month}")
        };
        let text = [
            line("n2-standard-4", 4.0, 16.0),
            line("n2-highcpu-4", 4.0, 4.0),
            line("n2-highmem-4", 4.0, 32.0),
            "e2-x,1,1,r,0,999".to_owned(),
        ];
        let empty = Vec::new;
        let tables = Tables {
            wan: empty(),
            zones: rows("x-1,x-2,1.0\nx-2,x-1,2.0\nx-1,x-1,0.1\ny-1,y-2,9"),
            regions: empty(),
            prices: rows(&text.join("\n")),
            egress: empty(),
        };
        let price = tables.price("r").unwrap();
        assert!((price.cpu_hour - 0.03).abs() < 1e-9, "{price:?}");
        assert!((price.memory_gib_hour - 0.004).abs() < 1e-9, "{price:?}");
        assert!((tables.rtt("x", "x", "x-").unwrap() - 1.5).abs() < 1e-9);
        assert!(tables.price("elsewhere").is_err());
    }
}
