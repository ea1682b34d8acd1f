//! The second person (F17): what waits for one, and what becomes of it when that one says yes or
//! no. Who may is judged by the core; what may begin is checked anew at that moment, because the
//! region may have come back since it was asked for.

use dwcp_api::failover::{
    FailoverReply, FailoverRequestItem, FailoverRequestList, StartFailover,
};
use dwcp_api::{ApiError, ErrorCode};
use dwcp_controller::failover::{
    Approval, Approver, REQUESTS_MAX, Request, Trigger, judge_approval,
};
use dwcp_runtime::tls::Identity;
use tracing::info;

use super::Rescuer;
use super::requests::{Added, Found};
use crate::claims::random_name;
use crate::engine;

impl Rescuer {
    /// What waits for a second person, and what has expired and was not removed yet.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub async fn list_requests(&self) -> Result<FailoverRequestList, ApiError> {
        let all = self.read_requests().await?;
        let items = all.into_iter().map(|found| self.shown(found.request)).collect();
        Ok(FailoverRequestList { items })
    }

    /// Has a failover wait for another operator. What could not begin now is not asked for:
    /// nobody is called for something that is refused in any case.
    pub(super) async fn ask_for_approval(
        &self,
        operator: String,
        ask: StartFailover,
    ) -> Result<FailoverReply, ApiError> {
        if !is_person(&operator) {
            return Err(no_person(&operator, "ask with an operator's own certificate"));
        }
        let seen = self.seen.borrow().clone();
        let plan = self.plan_of(&seen, &ask)?;
        Self::unhindered(&seen, &ask)?;
        let now = self.clock.now();
        let request = Request {
            id: random_name("fr"),
            from_region: ask.from_region,
            to_regions: ask.to_regions,
            accept_data_loss: ask.accept_data_loss,
            even_if_alive: ask.even_if_alive,
            hosts_off: ask.hosts_off,
            reason: ask.reason,
            asked_by: operator,
            asked_at: now,
            until: now.plus(self.approval.time),
        };
        let added = self.requests.add(&request).await;
        match added.map_err(|error| engine::failed(&error))? {
            Added::Written => {}
            Added::Full => return Err(no_room()),
        }
        let Request { id, from_region, asked_by, reason, hosts_off, .. } = &request;
        let word = hosts_off.as_ref().map_or_else(String::new, |how| {
            format!("; and says that all its hosts are off: {how}")
        });
        self.note(&format!(
            "{asked_by} asks for a failover of region {from_region}, request {id}: {reason}{word}"
        ))
        .await;
        Ok(FailoverReply { request: Some(request), ..FailoverReply::planned(plan, true) })
    }

    /// Begins what another operator asked for.
    ///
    /// # Errors
    ///
    /// When there is no such request, it has expired, whoever approves may not, or it could not
    /// begin now without an approval.
    pub async fn approve(
        &self,
        approver: String,
        id: &str,
    ) -> Result<FailoverReply, ApiError> {
        let found = self.find_request(id).await?;
        let request = &found.request;
        let who = Approver { name: &approver, is_person: is_person(&approver) };
        let judged = judge_approval(request, who, self.clock.now());
        if let Some(refused) = not_given(request, &judged) {
            return Err(refused);
        }
        let ask = StartFailover {
            from_region: request.from_region.clone(),
            to_regions: request.to_regions.clone(),
            reason: request.reason.clone(),
            even_if_alive: request.even_if_alive,
            accept_data_loss: request.accept_data_loss,
            hosts_off: request.hosts_off.clone(),
            dry_run: false,
            require_approval: None,
        };
        let trigger = Trigger::Operator {
            name: request.asked_by.clone(),
            reason: request.reason.clone(),
            approved_by: Some(approver),
        };
        self.begin_now(&ask, trigger, Some(&found)).await
    }

    /// Removes a request; its asker may, too.
    ///
    /// # Errors
    ///
    /// When there is none any more, or whoever denies is no person.
    pub async fn deny(
        &self,
        operator: String,
        id: &str,
        reason: &str,
    ) -> Result<FailoverRequestItem, ApiError> {
        if !is_person(&operator) {
            return Err(no_person(
                &operator,
                "deny it with an operator's own certificate",
            ));
        }
        let found = self.find_request(id).await?;
        let removed = self.requests.remove(&found).await;
        if !removed.map_err(|error| engine::failed(&error))? {
            return Err(no_such_request(id));
        }
        let Request { id, from_region, .. } = &found.request;
        self.note(&format!(
            "{operator} denies the failover of region {from_region}, request {id}: {reason}"
        ))
        .await;
        Ok(self.shown(found.request))
    }

    async fn read_requests(&self) -> Result<Vec<Found>, ApiError> {
        self.requests.all().await.map_err(|error| engine::failed(&error))
    }

    /// Looked for among all, because what was typed is no part of a key.
    async fn find_request(&self, id: &str) -> Result<Found, ApiError> {
        let mut all = self.read_requests().await?.into_iter();
        all.find(|found| found.request.id == id).ok_or_else(|| no_such_request(id))
    }

    fn shown(&self, request: Request) -> FailoverRequestItem {
        let expired = request.has_expired(self.clock.now());
        FailoverRequestItem { request, expired }
    }

    async fn note(&self, what: &str) {
        info!(what, "two persons");
        self.events.note(None, what).await;
    }
}

/// Whether a certificate's name is a person's.
fn is_person(name: &str) -> bool {
    matches!(name.parse(), Ok(Identity::Admin(_)))
}

fn no_person(name: &str, remedy: &str) -> ApiError {
    let message = format!("{name} is no person, and cannot be one of two");
    ApiError::new(ErrorCode::Forbidden, message).with_remedy(remedy)
}

/// Why it does not begin, when it is not approved.
fn not_given(request: &Request, judged: &Approval) -> Option<ApiError> {
    let Request { id, from_region, .. } = request;
    let (code, remedy) = match judged {
        Approval::Given => return None,
        Approval::NoPerson { .. } => (
            ErrorCode::Forbidden,
            "approve it with an operator's own certificate".to_owned(),
        ),
        Approval::SamePerson { .. } => (
            ErrorCode::Refused,
            format!(
                "have another operator run `dwcp-cli federation failover approve {id}`"
            ),
        ),
        Approval::Expired { .. } => (
            ErrorCode::Refused,
            "ask for it anew, and have it approved in time (`failover.approval_time`)"
                .to_owned(),
        ),
    };
    let message = format!(
        "request {id} for the failover of {from_region} is not approved: {judged}"
    );
    Some(ApiError::new(code, message).with_remedy(remedy))
}

fn no_such_request(id: &str) -> ApiError {
    let message = format!("there is no request {id} for a failover");
    ApiError::new(ErrorCode::NotFound, message).with_remedy(
        "it was approved, denied or removed when it had expired, or never was: \
         `dwcp-cli federation failover requests` lists those that wait",
    )
}

fn no_room() -> ApiError {
    let message =
        format!("{REQUESTS_MAX} failovers wait for a second person, as many as may");
    ApiError::new(ErrorCode::Refused, message).with_remedy(
        "approve or deny one: `dwcp-cli federation failover requests` lists them",
    )
}
