//! Bodies on their way: bounded in length and in the time for which they stand still.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use super::pool::Lease;
use super::tally::Tally;

/// Bodies up to this length are read before anything is sent, so that they can be sent again
/// where that is safe: with the most connections that is 64 MiB.
const WHOLE_LEN_MAX: u64 = 16 << 10;

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// It stood still.
    #[error("the body stood still for too long")]
    Still,
    /// It is longer than agreed.
    #[error("the body is too long")]
    Long,
    /// The connection that it came by broke.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
}

/// Fires when a body stands still: made only when one must be waited for.
#[derive(Debug)]
struct Patience {
    most: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    const fn new(most: Duration) -> Self {
        Self { most, timer: None }
    }

    /// The next frame, or that it stood still for too long.
    fn poll(
        &mut self,
        from: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(from).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.most)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(BodyError::Still)))
    }
}

/// A request's body on its way to a server.
#[derive(Debug)]
pub(super) enum Upload {
    /// All of it; what is sent is taken out.
    Whole(Option<Bytes>),
    /// As it comes.
    Through(Through),
}

/// A body that is handed on as it comes.
#[derive(Debug)]
pub(super) struct Through {
    from: Incoming,
    /// Told when all of it has been taken.
    ended: Arc<Notify>,
    left: u64,
    patience: Patience,
}

impl Upload {
    /// From what comes: whole when it is short.
    pub(super) async fn of(
        from: Incoming,
        len_max: u64,
        time_max: Duration,
    ) -> Result<Self, BodyError> {
        if from.is_end_stream() {
            return Ok(Self::Whole(None));
        }
        let short = from.size_hint().exact().is_some_and(|len| len <= WHOLE_LEN_MAX);
        let patience = Patience::new(time_max);
        let through = Through { from, ended: Arc::default(), left: len_max, patience };
        if !short {
            return Ok(Self::Through(through));
        }
        let whole = Self::Through(through).collect().await?;
        Ok(Self::Whole(Some(whole.to_bytes())))
    }

    /// The same again, where all of it is here; nothing for one that is handed on as it comes.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Through(_) => None,
        }
    }

    /// Waits until all of it has been taken.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let ended = match self {
            Self::Whole(_) => None,
            Self::Through(through) => Some(through.ended.clone()),
        };
        async move {
            if let Some(ended) = ended {
                ended.notified().await;
            }
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let through = match &mut *self {
            Self::Whole(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Self::Through(through) => through,
        };
        let frame = ready!(through.patience.poll(&mut through.from, context));
        let Some(frame) = frame.transpose()? else {
            through.ended.notify_one();
            return Poll::Ready(None);
        };
        let len = frame.data_ref().map_or(0, Bytes::len);
        let left = through.left.checked_sub(u64::try_from(len).unwrap_or(u64::MAX));
        let Some(left) = left else { return Poll::Ready(Some(Err(BodyError::Long))) };
        through.left = left;
        if through.from.is_end_stream() {
            through.ended.notify_one();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Through(through) => through.from.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                let len = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(len).unwrap_or(u64::MAX))
            }
            Self::Through(through) => through.from.size_hint(),
        }
    }
}

/// An answer's body on its way to the client, with what is held until it has gone.
#[derive(Debug)]
pub(super) struct Download {
    from: Source,
    patience: Patience,
    lease: Option<Lease>,
    tally: Option<Tally>,
}

#[derive(Debug)]
enum Source {
    /// This proxy's own words.
    Own(Option<Bytes>),
    Server(Incoming),
}

impl Download {
    /// This proxy's own words.
    pub(super) const fn own(text: Bytes) -> Self {
        let from = Source::Own(Some(text));
        Self { from, patience: Patience::new(Duration::MAX), lease: None, tally: None }
    }

    /// None at all.
    pub(super) const fn nothing() -> Self {
        let from = Source::Own(None);
        Self { from, patience: Patience::new(Duration::MAX), lease: None, tally: None }
    }

    /// What a server sends, by the connection that it comes by.
    pub(super) fn server(from: Incoming, lease: Lease, time_max: Duration) -> Self {
        let patience = Patience::new(time_max);
        let from = Source::Server(from);
        let mut own = Self { from, patience, lease: Some(lease), tally: None };
        if own.is_end_stream() {
            own.end();
        }
        own
    }

    /// Counts what goes.
    pub(super) fn tallied(mut self, tally: Tally) -> Self {
        self.tally = Some(tally);
        self
    }

    /// The connection may be used again.
    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.from {
            Source::Own(text) => {
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text))))
            }
            Source::Server(server) => self.patience.poll(server, context),
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let own = &mut *self;
        let frame = ready!(own.poll_source(context));
        let Some(frame) = frame.transpose()? else {
            own.end();
            return Poll::Ready(None);
        };
        if let (Some(tally), Some(data)) = (&mut own.tally, frame.data_ref()) {
            tally.sent(data.len());
        }
        if own.is_end_stream() {
            own.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            Source::Own(text) => text.is_none(),
            Source::Server(server) => server.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            Source::Own(text) => {
                let len = text.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(len).unwrap_or(u64::MAX))
            }
            Source::Server(server) => server.size_hint(),
        }
    }
}
