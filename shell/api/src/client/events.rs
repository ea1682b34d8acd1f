//! The client's half of an operation that answers with a stream of events.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use dwcp_runtime::http::{HttpError, Opened};
use http::Request;
use http::header::ACCEPT;

use super::{CallError, Client, read};
use crate::sse::{Event, Reader};
use crate::{Operation, params};

/// A stream that says nothing for so long is dead: three of the server's heartbeats.
const QUIET_MAX: Duration = Duration::from_secs(45);

/// Events as they come.
#[derive(Debug)]
pub struct Events {
    url: String,
    answer: Opened,
    reader: Reader,
    read: VecDeque<Event>,
}

impl Client {
    /// Opens a stream. `last` is the id of the event that is had already.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn watch<O: Operation<Body = ()>>(
        &self,
        params: &O::Params,
        last: Option<&str>,
    ) -> Result<Events, CallError> {
        let path = params::encode(O::PATH, params)
            .map_err(|error| self.broken(error.to_string()))?;
        let mut unreachable = None;
        for base in self.bases.iter() {
            let url = format!("{base}{path}");
            let mut request = Request::get(&url).header(ACCEPT, "text/event-stream");
            if let Some(last) = last {
                request = request.header("last-event-id", last);
            }
            let request = request.body(Bytes::new());
            let request = request.map_err(|error| self.broken(error.to_string()))?;
            match self.http.open(request, self.call_time_max).await {
                Ok(answer) => return opened::<O>(url, answer, self.call_time_max).await,
                Err(error @ HttpError::Unreachable { .. }) => unreachable = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        let nowhere = || self.broken("there is no address".to_owned());
        Err(unreachable.map_or_else(nowhere, CallError::from))
    }

    fn broken(&self, reason: String) -> CallError {
        CallError::Protocol { url: self.address().to_owned(), reason }
    }
}

/// A stream, or the error that came instead of it.
async fn opened<O: Operation>(
    url: String,
    answer: Opened,
    time_max: Duration,
) -> Result<Events, CallError> {
    if answer.status().is_success() {
        let (reader, read) = Default::default();
        return Ok(Events { url, answer, reader, read });
    }
    let refused = read::<O>(&url, &answer.whole(time_max).await?);
    let reason = "it is no stream of events".to_owned();
    Err(refused.err().unwrap_or(CallError::Protocol { url, reason }))
}

impl Events {
    /// The next event; nothing when the server ended the stream.
    ///
    /// # Errors
    ///
    /// When the connection broke, was quiet for too long, or carried what is no stream of events.
    pub async fn next(&mut self) -> Result<Option<Event>, CallError> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Ok(Some(event));
            }
            let Some(bytes) = self.answer.next(QUIET_MAX).await? else { return Ok(None) };
            let events = self.reader.take(&bytes).map_err(|error| {
                CallError::Protocol { url: self.url.clone(), reason: error.to_string() }
            })?;
            self.read.extend(events);
        }
    }
}
