//! Answers operators who ask what is measured, or was.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::measured::{
    GetHistory, GetMetrics, HistoryParams, HistoryPoint, HistoryReply, MetricsParams,
    MetricsReply, RegionMetrics,
};
use dwcp_api::{ApiError, ErrorCode, Routes};
use dwcp_monitor::Metric;
use dwcp_types::{RegionId, millis};

use super::Chronicle;
use crate::bind::bind;
use crate::mirror::Mirror;
use crate::public_api::admit;
use crate::region_records::no_such_region;

/// Over what is measured when nobody says: the window of the source's service levels (M7).
pub(crate) const OVER: Duration = Duration::from_mins(5);
/// The range of a chart when nobody says.
const RANGE: Duration = Duration::from_hours(1);
/// The longest: what the history keeps.
const RANGE_MAX: Duration = Duration::from_hours(90 * 24);

/// What answers.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) chronicle: Arc<Chronicle>,
    pub(crate) mirror: Arc<Mirror>,
}

/// The operator's routes.
pub(crate) fn routes(api: &Arc<Measured>) -> Routes {
    bind! { api, admit,
        GetMetrics => metrics;
        GetHistory => history;
    }
}

impl Measured {
    fn regions(&self) -> Vec<RegionId> {
        self.mirror.regions().iter().map(|record| record.region.id.clone()).collect()
    }

    fn known(&self, region: &RegionId) -> Result<(), ApiError> {
        let found = self.mirror.region(region);
        found.map(drop).ok_or_else(|| no_such_region(region))
    }

    fn metrics_of(&self, region: &RegionId, over: Duration) -> RegionMetrics {
        let hearing = self.chronicle.hearing(region);
        let window = self.chronicle.last(region, over);
        let says = |metric: &Metric| self.chronicle.says(region, *metric);
        let value = |metric: Metric| Some((metric, window.value_milli(metric)?));
        RegionMetrics {
            region: region.clone(),
            age_ms: hearing.age.map(millis),
            lost: hearing.lost,
            refused: hearing.refused,
            clock_offset_ms: hearing.offset_ms,
            values_milli: Metric::ALL
                .into_iter()
                .filter(says)
                .filter_map(value)
                .collect(),
        }
    }

    async fn metrics(
        &self,
        asked: MetricsParams,
        (): (),
    ) -> Result<MetricsReply, ApiError> {
        let over = span(asked.over_s, OVER)?;
        if let Some(region) = &asked.region {
            self.known(region)?;
        }
        let mut regions = self.regions();
        regions.retain(|it| asked.region.as_ref().is_none_or(|region| it == region));
        let this = self.clone();
        let read = move || MetricsReply {
            answered_by: this.chronicle.region.clone(),
            over_s: over.as_secs(),
            together: this.chronicle.together(&regions, over),
            regions: regions.iter().map(|region| this.metrics_of(region, over)).collect(),
        };
        from_disk(read).await
    }

    async fn history(
        &self,
        asked: HistoryParams,
        (): (),
    ) -> Result<HistoryReply, ApiError> {
        let range = span(asked.range_s, RANGE)?;
        self.known(&asked.region)?;
        let (chronicle, region) = (self.chronicle.clone(), asked.region.clone());
        let read = move || chronicle.chart(&region, asked.metric, range);
        let chart = from_disk(read).await?;
        let point = |point: &dwcp_monitor::history::Point| HistoryPoint {
            at: point.at,
            value_milli: point.value_milli,
            min_milli: point.min_milli,
            max_milli: point.max_milli,
        };
        Ok(HistoryReply {
            answered_by: self.chronicle.region.clone(),
            age_ms: self.chronicle.hearing(&asked.region).age.map(millis),
            region: asked.region,
            metric: asked.metric,
            unit: asked.metric.unit().to_owned(),
            step_ms: millis(chart.step),
            points: chart.points.iter().map(point).collect(),
        })
    }
}

/// Waits for what reads a disk.
pub(crate) async fn from_disk<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |_| ApiError::new(ErrorCode::Internal, "the history was not read");
    tokio::task::spawn_blocking(read).await.map_err(failed)
}

/// A time that was asked for, or the usual one.
fn span(asked_s: Option<u64>, usual: Duration) -> Result<Duration, ApiError> {
    let span = asked_s.map_or(usual, Duration::from_secs);
    if span >= Duration::from_secs(1) && span <= RANGE_MAX {
        return Ok(span);
    }
    let message = "the time must be 1 s at least and 90 d at most";
    let error = ApiError::new(ErrorCode::Invalid, message);
    Err(error.with_remedy("the history keeps 2 h by 10 s, 7 d by 1 min, 90 d by 5 min"))
}
