//! This region's own guests: their consoles, read from their hosts, and their events.

use std::collections::BTreeMap;
use std::sync::Arc;

use dwcp_api::host::{ConsoleParams as HostConsole, ReadConsole};
use dwcp_api::public::{ConsoleParams, ConsoleReply, Event, EventParams};
use dwcp_api::{ApiError, Client, ErrorCode};
use dwcp_types::HostId;

use crate::events::Events;
use crate::lifecycle::no_such_vm;
use crate::mirror::Mirror;

/// Events when nothing is said.
const EVENTS_DEFAULT: u32 = 100;

/// Reaches this region's guests.
#[derive(Clone, Debug)]
pub struct LocalGuests {
    /// Records, to know the host.
    pub mirror: Arc<Mirror>,
    /// The agents of this region's hosts.
    pub hosts: BTreeMap<HostId, Client>,
    /// This region's events.
    pub events: Events,
}

impl LocalGuests {
    /// A part of a guest's serial output.
    ///
    /// # Errors
    ///
    /// When there is no such VM, it has not started yet, or its host does not answer.
    pub async fn console(
        &self,
        params: &ConsoleParams,
    ) -> Result<ConsoleReply, ApiError> {
        let vm = &params.vm;
        let stored = self.mirror.vm(vm).ok_or_else(|| no_such_vm(vm))?;
        let host = &stored.record.owner.host;
        let agent = self.hosts.get(host).ok_or_else(|| {
            let message =
                format!("host {host} of VM {vm} is not in this region's configuration");
            ApiError::new(ErrorCode::Unavailable, message).with_remedy(
                "add the host to federation.yaml again and restart the daemon",
            )
        })?;
        let asked = HostConsole { vm: vm.clone(), offset: params.offset, limit: None };
        let reply = agent.call::<ReadConsole>(&asked, &()).await.map_err(|error| {
            let remedy = "its guests go on; try again when its agent is back";
            error.or_unavailable(&format!("host {host}"), remedy)
        })?;
        Ok(ConsoleReply { offset: reply.offset, next: reply.next, text: reply.text })
    }

    /// This region's newest events.
    #[must_use]
    pub fn events(&self, params: &EventParams) -> Vec<Event> {
        let limit = params.limit.unwrap_or(EVENTS_DEFAULT);
        self.events.list(params.vm.as_ref(), usize::try_from(limit).unwrap_or(usize::MAX))
    }
}
