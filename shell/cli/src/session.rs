//! A federation that can be asked: credentials, addresses, time limits.

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::public::ExplainPlacement;
use dwcp_api::{CallError, Client, Events, Method, Operation};
use dwcp_runtime::clock::Clock;

use crate::arguments::GlobalArgs;
use crate::credentials::Folder;
use crate::failure::Failure;
use crate::surroundings::{Pace, Surroundings};

/// Time for one call when nothing is said: what the API's own client allows.
const CALL_TIME: Duration = Duration::from_secs(30);
/// Time to wait for a VM when nothing is said: a guest under emulation on a loaded machine
/// boots within minutes.
const WAIT_TIME: Duration = Duration::from_mins(10);

/// A federation that can be asked.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    clock: Arc<dyn Clock>,
    /// Pauses.
    pub(crate) pace: Pace,
    /// How long to wait for a VM.
    pub(crate) wait_time_max: Duration,
}

impl Session {
    /// Prepares everything; connects at the first call.
    ///
    /// # Errors
    ///
    /// When credentials or addresses cannot be used.
    pub(crate) fn open(
        global: &GlobalArgs,
        surroundings: &Surroundings,
    ) -> Result<Self, Failure> {
        let folder = Folder::find(global, surroundings)?;
        let tls = folder.tls(surroundings.clock.now())?;
        let named = !global.endpoint.is_empty();
        let endpoints =
            if named { global.endpoint.clone() } else { folder.endpoints()? };
        let client = Client::new(&endpoints, tls).map_err(|error| {
            let place = if named { "--endpoint" } else { "the `endpoints` file" };
            Failure::usage(error.to_string()).with_remedy(format!("correct {place}"))
        })?;
        let client = match surroundings.part_of {
            Some(context) => client.part_of(context),
            None => client,
        };
        Ok(Self {
            client: client.with_call_time_max(global.timeout.unwrap_or(CALL_TIME)),
            clock: Arc::clone(&surroundings.clock),
            pace: surroundings.pace,
            wait_time_max: global.timeout.unwrap_or(WAIT_TIME),
        })
    }

    /// Asks once.
    ///
    /// # Errors
    ///
    /// What became of it.
    pub(crate) async fn call<O: Operation>(
        &self,
        params: &O::Params,
        body: &O::Body,
    ) -> Result<O::Reply, Failure> {
        self.try_call::<O>(params, body).await.map_err(Self::failure_of::<O>)
    }

    /// What it means that a call has no reply.
    pub(crate) fn failure_of<O: Operation>(error: CallError) -> Failure {
        let changes = O::METHOD != Method::Get && O::ID != ExplainPlacement::ID;
        Failure::of_call(error, changes)
    }

    /// Asks once, and says in the client's own terms why there is no reply.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub(crate) async fn try_call<O: Operation>(
        &self,
        params: &O::Params,
        body: &O::Body,
    ) -> Result<O::Reply, CallError> {
        self.client.call::<O>(params, body).await
    }

    /// Opens a stream of events. `last` is the one that is had already.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub(crate) async fn watch<O: Operation<Body = ()>>(
        &self,
        params: &O::Params,
        last: Option<&str>,
    ) -> Result<Events, CallError> {
        self.client.watch::<O>(params, last).await
    }

    /// Time since some moment; for measuring how long something takes.
    pub(crate) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Pauses.
    pub(crate) async fn pause(&self, span: Duration) {
        self.clock.sleep_until(self.clock.monotonic().saturating_add(span)).await;
    }
}
