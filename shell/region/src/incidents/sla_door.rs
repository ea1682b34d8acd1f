//! Answers operators who ask for service levels or promise some (O5).

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::sla::{
    CreateSla, DeleteSla, GetSlaHistory, ListSlas, NewSla, SlaCreated, SlaFilter,
    SlaHistory, SlaHistoryParams, SlaItem, SlaList, SlaParams, SlaRun, SlaStanding,
};
use dwcp_api::{ApiError, ErrorCode, NoParams, Routes};
use dwcp_monitor::sla::{Counting, Definition};
use dwcp_runtime::strong::{Compare, Op, OpId, Txn, TxnOutcome};
use dwcp_types::RegionId;

use super::Incidents;
use super::board::sla_key;
use crate::bind::bind;
use crate::chronicle::from_disk;
use crate::commit::stored;
use crate::config::SLAS_MAX;
use crate::public_api::admit;

/// The operator's routes.
pub(super) fn routes(api: &Arc<Incidents>) -> Routes {
    bind! { api, admit,
        ListSlas => slas;
        CreateSla => create_sla;
        DeleteSla => delete_sla;
        GetSlaHistory => sla_history;
    }
}

impl Incidents {
    async fn slas(&self, asked: SlaFilter, (): ()) -> Result<SlaList, ApiError> {
        self.known(asked.region.as_ref())?;
        if let Some(id) = &asked.sla {
            self.sla(id)?;
        }
        let mut all = self.promised();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all.retain(|of| asked.sla.as_ref().is_none_or(|id| of.id == *id));
        let mut wanted = Vec::new();
        for of in all {
            let mut regions = self.regions_of(&of);
            regions.retain(|it| asked.region.as_ref().is_none_or(|region| it == region));
            wanted.push((of, regions));
        }
        let items = self.measured(wanted).await?.into_iter().map(|(of, regions)| {
            let of_region = |(region, value)| self.standing(&of, region, value);
            SlaItem {
                promised: promised(&of),
                from_file: self.in_file(&of.id).is_some(),
                regions: regions.into_iter().map(of_region).collect(),
            }
        });
        Ok(SlaList {
            items: items.collect(),
            answered_by: self.region.clone(),
            evaluated_by: self.board.duty().map(|duty| duty.region),
            age_ms: self.age_ms(),
        })
    }

    /// What is measured now of each promise in its regions.
    async fn measured(
        &self,
        wanted: Vec<(Definition, Vec<RegionId>)>,
    ) -> Result<Vec<(Definition, Vec<(RegionId, Option<u64>)>)>, ApiError> {
        let chronicle = Arc::clone(&self.chronicle);
        from_disk(move || {
            let each = wanted.into_iter().map(|(of, regions)| {
                let values = regions.into_iter().map(|region| {
                    let value = chronicle.value(&region, of.metric, of.window);
                    (region, value)
                });
                let values = values.collect();
                (of, values)
            });
            each.collect()
        })
        .await
    }

    async fn create_sla(
        &self,
        _: NoParams,
        body: NewSla,
    ) -> Result<SlaCreated, ApiError> {
        self.known(body.region.as_ref())?;
        let made = self.board.slas();
        if made.len() >= SLAS_MAX {
            let error = ApiError::new(
                ErrorCode::Refused,
                format!("operators have promised {SLAS_MAX} service levels already"),
            );
            return Err(error.with_remedy("delete some that are not needed"));
        }
        let taken = |id: &str| self.promised().iter().any(|it| it.id == id);
        let id = body.id.clone().unwrap_or_else(|| {
            let base = body.metric.word().replace('_', "-");
            let free = (1..).map(|number| format!("sla-{base}-{number:03}"));
            free.take(2 * SLAS_MAX + 1).find(|id| !taken(id)).unwrap_or(base)
        });
        let of = definition(id, body);
        of.check().map_err(|wrong| {
            ApiError::new(ErrorCode::Invalid, wrong.to_string())
                .with_remedy("see `dwcp-cli federation monitoring sla create --help`")
        })?;
        let exists = || {
            let message = format!("there is a service level {} already", of.id);
            ApiError::new(ErrorCode::Conflict, message)
                .with_remedy("delete it first, or give another `--id`")
        };
        if taken(&of.id) {
            return Err(exists());
        }
        let key = sla_key(&of.id);
        let value = stored(&of).map_err(|error| crate::engine::failed(&error))?;
        let txn = Txn {
            compare: vec![Compare::absent(&key)],
            then: vec![Op::Put { key, value, lease: None }],
            op_id: Some(OpId::random()),
        };
        match self.engine.txn(txn).await.map_err(|error| crate::engine::failed(&error))? {
            TxnOutcome::Committed { .. } => Ok(SlaCreated { id: of.id }),
            TxnOutcome::Conflict { .. } => Err(exists()),
        }
    }

    async fn delete_sla(&self, of: SlaParams, (): ()) -> Result<(), ApiError> {
        self.sla(&of.sla)?;
        if self.in_file(&of.sla).is_some() {
            let message = format!("`federation.yaml` promises {}", of.sla);
            return Err(ApiError::new(ErrorCode::Refused, message).with_remedy(
                "take it out of `monitoring.sla_definitions` in every region",
            ));
        }
        let mut then = vec![Op::Delete { key: sla_key(&of.sla) }];
        then.extend(self.ledgers_gone(&of.sla).into_iter().take(super::OPS_MAX - 1));
        let txn = Txn { compare: Vec::new(), then, op_id: Some(OpId::random()) };
        self.engine.txn(txn).await.map_err(|error| crate::engine::failed(&error))?;
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn sla_history(
        &self,
        asked: SlaHistoryParams,
        (): (),
    ) -> Result<SlaHistory, ApiError> {
        self.known(Some(&asked.region))?;
        let of = self.sla(&asked.sla)?;
        let window = of.window.as_millis().max(1);
        let kept = self.board.ledger(&of, &asked.region);
        let runs = kept.map(|kept| kept.ledger.runs()).unwrap_or_default();
        let run = |run: &dwcp_monitor::sla::Run| SlaRun {
            from: run.from,
            until: run.until,
            windows: u64::try_from(run.until.since(run.from).as_millis() / window)
                .unwrap_or(u64::MAX),
            kept: (run.slice.total > 0).then_some(run.slice.good == run.slice.total),
        };
        Ok(SlaHistory {
            sla: of.id.clone(),
            region: asked.region,
            window_s: of.window.as_secs(),
            runs: runs.iter().map(run).collect(),
        })
    }

    fn sla(&self, id: &str) -> Result<Definition, ApiError> {
        let found = self.promised().into_iter().find(|it| it.id == id);
        found.ok_or_else(|| {
            let id: String = id.chars().take(64).collect();
            ApiError::new(ErrorCode::NotFound, format!("there is no service level {id}"))
                .with_remedy("`dwcp-cli federation monitoring sla list` shows all")
        })
    }

    fn standing(
        &self,
        of: &Definition,
        region: RegionId,
        value: Option<u64>,
    ) -> SlaStanding {
        let report = self.report(of, &region);
        let mut explained = report.explain(of);
        explained.push(value.map_or_else(
            || "now: nothing is measured".to_owned(),
            |value| format!("now: {}", of.held(value)),
        ));
        SlaStanding {
            region,
            value_milli: value,
            holds: value.map(|value| of.holds(value)),
            standing: report.standing,
            compliance_ppm: report.compliance_ppm,
            coverage_ppm: report.coverage_ppm,
            spent_ppm: report.spent_ppm,
            windows_good: report.sum.windows_good,
            windows_bad: report.sum.windows_bad,
            windows_unmeasured: report.sum.windows_unmeasured,
            gone_in_s: report.gone_in.map(|left| left.as_secs()),
            burns: report.burns.iter().any(|burn| burn.fires),
            explained,
        }
    }
}

fn promised(of: &Definition) -> NewSla {
    NewSla {
        id: Some(of.id.clone()),
        name: of.name.clone(),
        metric: of.metric,
        target_milli: of.target_milli,
        operator: of.operator,
        compliance_ppm: of.compliance_ppm,
        severity: of.severity,
        window_s: of.window.as_secs(),
        period_s: of.period.as_secs(),
        region: of.region.clone(),
    }
}

fn definition(id: String, body: NewSla) -> Definition {
    Definition {
        id,
        name: body.name,
        metric: body.metric,
        region: body.region,
        operator: body.operator,
        target_milli: body.target_milli,
        counting: Counting::Windows,
        window: Duration::from_secs(body.window_s),
        period: Duration::from_secs(body.period_s),
        compliance_ppm: body.compliance_ppm,
        severity: body.severity,
    }
}
