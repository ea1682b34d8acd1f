//! A Prometheus' answer as people read it.

use std::collections::BTreeMap;

use super::Look;
use crate::act::{Series, Vector};
use crate::table::{Table, row};

/// One row a series; of a matrix the newest value and how many there are.
pub(crate) fn series(of: &Vector, look: Look) -> String {
    if let Ok(all) = serde_json::from_value::<Vec<Series>>(of.result.clone()) {
        if all.is_empty() {
            return "no series\n".to_owned();
        }
        let mut table = Table::new(&["SERIES", ">VALUE", ">POINTS"]);
        for it in &all {
            let newest = it.value.as_ref().or_else(|| it.values.last());
            let value = newest.map_or("-", |(_, value)| value.as_str());
            let points = it.values.len().max(usize::from(it.value.is_some()));
            table.push(row![name(&it.metric), value, points]);
        }
        return table.render(look.colored);
    }
    match serde_json::from_value::<(f64, String)>(of.result.clone()) {
        Ok((_, value)) => crate::text::plain(&value) + "\n",
        Err(_) => format!("{}\n", of.result),
    }
}

/// As PromQL writes it: `name{label="value"}`.
fn name(labels: &BTreeMap<String, String>) -> String {
    let name = labels.get("__name__").map_or("", String::as_str);
    let others = labels.iter().filter(|(label, _)| *label != "__name__");
    let others: Vec<_> =
        others.map(|(label, value)| format!("{label}={value:?}")).collect();
    if others.is_empty() && !name.is_empty() {
        return name.to_owned();
    }
    format!("{name}{{{}}}", others.join(", "))
}
