//! What is measured of regions, for people: a table of now, a line of what was.

use dwcp_api::measured::{HistoryReply, MetricsReply};
use dwcp_monitor::Metric;

use super::Look;
use crate::table::{Sheet, Table, row};
use crate::text;

/// Columns of a line of history: with its name it fits a terminal of 80.
const COLUMNS: usize = 60;
/// Points of a table; `-o wide` has all.
const POINTS: usize = 12;
/// What a gap looks like: no bar is as low.
const GAP: char = '\u{b7}';
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Every region's values.
pub(crate) fn metrics(reply: &MetricsReply, look: Look) -> String {
    let mut heads = vec!["REGION", ">AGE"];
    let names: Vec<_> = Metric::ALL.iter().map(|it| head(*it)).collect();
    heads.extend(names.iter().map(String::as_str));
    if look.wide {
        heads.extend([">LOST", ">REFUSED", ">CLOCK AHEAD MS"]);
    }
    let mut table = Table::new(&heads);
    for region in &reply.regions {
        let mut row = row![&region.region, text::age_ms(region.age_ms)];
        for metric in Metric::ALL {
            let value = region.values_milli.get(&metric).copied();
            row.extend(row![text::measured(value, metric.unit())]);
        }
        if look.wide {
            row.extend(row![region.lost, region.refused, region.clock_offset_ms]);
        }
        table.push(row);
    }
    let all = &reply.together;
    let latency = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), text::span_us);
    format!(
        "{}\nall together: p50 {}, p95 {}, p99 {}; {} requests of {} of {} regions, oldest \
         {}\nover the last {} s, answered by {}\n",
        table.render(look.colored),
        latency(all.p50_us),
        latency(all.p95_us),
        latency(all.p99_us),
        text::count(all.requests),
        all.measured,
        all.regions,
        text::age_ms(all.age_ms),
        reply.over_s,
        reply.answered_by,
    )
}

fn head(metric: Metric) -> String {
    let name = metric.word().trim_end_matches("_latency").replace('_', " ");
    format!(">{}", name.to_uppercase())
}

/// A chart of one line, what it lies between, and its last points.
pub(crate) fn history(reply: &HistoryReply, look: Look) -> String {
    let values: Vec<_> = reply.points.iter().map(|point| point.value_milli).collect();
    let known = || values.iter().flatten().copied();
    let value = |milli: Option<u64>| text::measured(milli, &reply.unit);
    let gaps = values.iter().filter(|value| value.is_none()).count();
    let mut sheet = Sheet::default();
    sheet
        .line("region", &reply.region)
        .line("metric", reply.metric)
        .line("lowest", value(known().min()))
        .line("highest", value(known().max()))
        .line("newest", value(known().next_back()))
        .line("gaps", format!("{gaps} of {} points", values.len()))
        .line("step", format!("{} s", reply.step_ms / 1_000))
        .line("age", text::age_ms(reply.age_ms));
    let shown = if look.wide { values.len() } else { POINTS.min(values.len()) };
    let mut table = Table::new(&["AT", ">VALUE", ">LEAST", ">GREATEST"]);
    for point in reply.points.iter().skip(values.len() - shown) {
        table.push(row![
            text::moment(point.at),
            value(point.value_milli),
            value(point.min_milli),
            value(point.max_milli),
        ]);
    }
    format!(
        "{}\n  {}\n\n{}\nanswered by {}, as it heard since it was started\n",
        sheet.render(look.colored),
        sparkline(&values),
        table.render(look.colored),
        reply.answered_by
    )
}

/// Every point, for a spreadsheet: a gap is an empty field.
pub(crate) fn history_csv(reply: &HistoryReply) -> String {
    let mut out = "at,value,least,greatest\n".to_owned();
    for point in &reply.points {
        let [value, least, greatest] =
            [point.value_milli, point.min_milli, point.max_milli]
                .map(|milli| milli.map(text::thousandths).unwrap_or_default());
        let at = text::moment(point.at);
        out += &format!("{at},{value},{least},{greatest}\n");
    }
    out
}

/// Values as bars from zero to the highest: of several in one column the highest, and a gap where
/// none is known.
fn sparkline(values: &[Option<u64>]) -> String {
    let in_column = values.len().div_ceil(COLUMNS).max(1);
    let columns: Vec<_> = values
        .chunks(in_column)
        .map(|chunk| chunk.iter().flatten().max().copied())
        .collect();
    let highest = columns.iter().flatten().max().copied().unwrap_or(0).max(1);
    let bar = |value: u64| {
        let place = u128::from(value) * 7 / u128::from(highest);
        BARS.get(usize::try_from(place).unwrap_or(0)).copied().unwrap_or(GAP)
    };
    columns.into_iter().map(|value| value.map_or(GAP, bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_heights_and_gaps_and_nothing_of_nothing() {
        let values = [Some(0), Some(4), None, Some(7)];
        assert_eq!(sparkline(&values), "▁▅·█");
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[Some(0), None]), "▁·");
        assert_eq!(sparkline(&[Some(u64::MAX)]), "█");
        let many: Vec<_> = (0..1_000).map(|at| (at != 500).then_some(5)).collect();
        assert_eq!(sparkline(&many), "█".repeat(59), "one gap hides in its column");
    }
}
