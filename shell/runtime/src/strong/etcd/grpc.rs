//! gRPC over one HTTP/2 connection: one message to ask, and one or many that answer.
//!
//! What matters here is how far a request came. [`Failure`] has a variant for each thing that
//! a caller may conclude, and whatever is not known for certain is [`Failure::Unknown`]: a
//! library that folds a refused connection and a lost answer into one status cannot say which
//! writes may be repeated (docs/adr/0009).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http2::SendRequest;
use prost::Message;

/// Largest answer in bytes: every key that a transaction may compare, at its largest, with room
/// for their names.
pub(super) const REPLY_LEN_MAX: usize = 136 << 20;
/// What stands before every message: whether it is compressed (never) and its length.
const PREFIX_LEN: usize = 5;
/// Longest text of an error that is taken over.
const MESSAGE_LEN_MAX: usize = 500;

/// A remote procedure.
pub(super) trait Method {
    /// Its path.
    const PATH: &'static str;
    /// A member that knows no leader refuses it at once, before it does anything.
    const NEEDS_LEADER: bool;
    /// What it is asked.
    type Request: Message;
    /// What it answers.
    type Response: Message + Default;
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It was never sent, or refused before anything was done.
    NotDone(String),
    /// It may have been done.
    Unknown(String),
    /// The server says no, and would say so again.
    Refused(Status),
}

/// A final answer other than success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// The code of gRPC.
    pub(super) code: i32,
    /// The server's words.
    pub(super) message: String,
}

impl Status {
    /// What follows from it.
    ///
    /// etcd gives one code to errors from before and from after a proposal, so its words
    /// decide. Before it: no leader (asked for by a header, see [`Method::NEEDS_LEADER`]), too
    /// many proposals under way, and no space, which the members also refuse when they apply.
    fn judged(self) -> Failure {
        const UNDONE: [&str; 4] = [
            "etcdserver: no leader",
            "etcdserver: too many requests",
            "etcdserver: not capable",
            "etcdserver: mvcc: database space exceeded",
        ];
        let undone = UNDONE.iter().any(|words| self.message.starts_with(words));
        match self.code {
            8 | 14 if undone => Failure::NotDone(self.message),
            // Malformed, absent, denied, out of range, unknown method, not authenticated.
            3 | 5 | 7 | 8 | 9 | 11 | 12 | 16 => Failure::Refused(self),
            _ => Failure::Unknown(format!("{} (code {})", self.message, self.code)),
        }
    }
}

/// A request's body: one message, after which the stream ends, or stays open.
#[derive(Debug)]
pub(super) struct Outgoing {
    message: Option<Bytes>,
    open: bool,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.message.take() {
            Some(message) => Poll::Ready(Some(Ok(Frame::data(message)))),
            // Nothing more is ever said; dropping the answer ends the stream.
            None if self.open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && !self.open
    }

    fn size_hint(&self) -> SizeHint {
        match &self.message {
            Some(message) if !self.open => {
                SizeHint::with_exact(u64::try_from(message.len()).unwrap_or(u64::MAX))
            }
            Some(_) | None => SizeHint::default(),
        }
    }
}

/// Asks and waits for the one message that answers.
pub(super) async fn unary<M: Method>(
    sender: SendRequest<Outgoing>,
    authority: &str,
    message: &M::Request,
) -> Result<M::Response, Failure> {
    let response = begin::<M>(sender, authority, message, false).await?;
    if let Some(status) = status(response.headers()) {
        return Err(status.judged());
    }
    let body = Limited::new(response.into_body(), REPLY_LEN_MAX).collect().await;
    let body = body.map_err(|error| {
        Failure::Unknown(if error.is::<LengthLimitError>() {
            too_long()
        } else {
            error.to_string()
        })
    })?;
    let Some(status) = body.trailers().and_then(status) else {
        return Err(Failure::Unknown("the answer has no status".to_owned()));
    };
    if status.code != 0 {
        return Err(status.judged());
    }
    let mut data = body.to_bytes();
    let message = message_len(&data)?
        .and_then(|len| take(&mut data, len))
        .ok_or_else(|| Failure::Unknown("the answer is cut off".to_owned()))?;
    decode(message)
}

/// Asks and hands out the messages that answer as they come.
pub(super) async fn stream<M: Method>(
    sender: SendRequest<Outgoing>,
    authority: &str,
    message: &M::Request,
) -> Result<Messages, Failure> {
    let response = begin::<M>(sender, authority, message, true).await?;
    if let Some(status) = status(response.headers()) {
        return Err(status.judged());
    }
    Ok(Messages { body: response.into_body(), data: BytesMut::new() })
}

async fn begin<M: Method>(
    mut sender: SendRequest<Outgoing>,
    authority: &str,
    message: &M::Request,
    open: bool,
) -> Result<Response<Incoming>, Failure> {
    let mut request = Request::post(format!("https://{authority}{}", M::PATH))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(TE, HeaderValue::from_static("trailers"));
    if M::NEEDS_LEADER {
        request = request.header("hasleader", HeaderValue::from_static("true"));
    }
    let body = Outgoing { message: Some(frame(message)), open };
    let request =
        request.body(body).map_err(|error| Failure::NotDone(error.to_string()))?;
    sender.ready().await.map_err(|error| Failure::NotDone(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| {
        // Canceled: the connection ended before it took the request.
        if error.is_canceled() {
            Failure::NotDone(error.to_string())
        } else {
            Failure::Unknown(error.to_string())
        }
    })?;
    if response.status() != StatusCode::OK {
        return Err(Failure::Unknown(format!("HTTP status {}", response.status())));
    }
    Ok(response)
}

/// The messages of a stream. Dropping it ends the stream.
#[derive(Debug)]
pub(super) struct Messages {
    body: Incoming,
    data: BytesMut,
}

impl Messages {
    /// The next message. Safe to abandon midway.
    pub(super) async fn next<T: Message + Default>(&mut self) -> Result<T, Failure> {
        loop {
            if let Some(len) = message_len(&self.data)? {
                let mut data = self.data.split_to(PREFIX_LEN + len).freeze();
                data.advance(PREFIX_LEN);
                return decode(data);
            }
            let Some(frame) = self.body.frame().await else {
                return Err(Failure::Unknown("the stream ended".to_owned()));
            };
            let frame = frame.map_err(|error| Failure::Unknown(error.to_string()))?;
            match frame.into_data() {
                Ok(data) => self.data.put(data),
                Err(frame) => {
                    let said = frame.trailers_ref().and_then(status);
                    let said = said.map_or_else(String::new, |status| status.message);
                    return Err(Failure::Unknown(format!("the stream ended: {said}")));
                }
            }
        }
    }
}

/// A message with what stands before it.
fn frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut data = BytesMut::with_capacity(PREFIX_LEN + len);
    data.put_u8(0);
    // Requests are bounded to a few MiB before they come here.
    data.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    message.encode_raw(&mut data);
    data.freeze()
}

/// The length of the first message, when all of it is there.
fn message_len(data: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(([compressed, len @ ..], rest)) = data.split_first_chunk::<PREFIX_LEN>()
    else {
        return Ok(None);
    };
    if *compressed != 0 {
        let reason = "the answer is compressed, which was not asked for";
        return Err(Failure::Unknown(reason.to_owned()));
    }
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    if len > REPLY_LEN_MAX {
        return Err(Failure::Unknown(too_long()));
    }
    Ok((rest.len() >= len).then_some(len))
}

fn take(data: &mut Bytes, len: usize) -> Option<Bytes> {
    (data.len() >= PREFIX_LEN + len).then(|| data.slice(PREFIX_LEN..PREFIX_LEN + len))
}

fn decode<T: Message + Default>(data: Bytes) -> Result<T, Failure> {
    T::decode(data).map_err(|error| Failure::Unknown(error.to_string()))
}

fn too_long() -> String {
    format!("the answer is larger than {REPLY_LEN_MAX} bytes")
}

/// Whether a failed call failed by the size of its answer.
pub(super) fn is_too_long(failure: &Failure) -> bool {
    matches!(failure, Failure::Unknown(reason) if *reason == too_long())
}

/// The status in headers or trailers, if it is there and well formed.
fn status(headers: &HeaderMap) -> Option<Status> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers.get("grpc-message").and_then(|text| text.to_str().ok());
    Some(Status { code, message: plain(message.unwrap_or_default()) })
}

/// A message without its percent encoding, shortened.
fn plain(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| tail.split_at_checked(2)).flatten();
        let escaped = escaped.and_then(|(digits, tail)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, tail))
        });
        let (byte, tail) = escaped.unwrap_or((*first, tail));
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).chars().take(MESSAGE_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::proto::{Empty, LeaseRequest};
    use super::*;

    fn failure(code: i32, message: &str) -> Failure {
        Status { code, message: message.to_owned() }.judged()
    }

    #[test]
    fn only_what_was_refused_before_a_proposal_counts_as_not_done() {
        for (code, words) in [
            (14, "etcdserver: no leader"),
            (8, "etcdserver: too many requests"),
            (8, "etcdserver: mvcc: database space exceeded"),
        ] {
            assert!(matches!(failure(code, words), Failure::NotDone(_)), "{words}");
        }
        for (code, words) in [
            (14, "etcdserver: request timed out"),
            (
                14,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            (14, "etcdserver: leader changed"),
            (14, "etcdserver: server stopped"),
            (14, "transport is closing"),
            (4, "context deadline exceeded"),
            (13, "internal"),
            (2, "unknown"),
        ] {
            assert!(matches!(failure(code, words), Failure::Unknown(_)), "{words}");
        }
        let lease = failure(5, "etcdserver: requested lease not found");
        assert!(matches!(lease, Failure::Refused(Status { code: 5, .. })));
    }

    #[test]
    fn a_message_is_found_only_when_all_of_it_is_there() {
        let framed = frame(&LeaseRequest { id: 1 << 40 });
        for len in 0..framed.len() {
            assert_eq!(message_len(&framed[..len]), Ok(None), "{len}");
        }
        assert_eq!(message_len(&framed), Ok(Some(framed.len() - PREFIX_LEN)));
        assert_eq!(message_len(&frame(&Empty {})), Ok(Some(0)));
        assert!(message_len(&[1, 0, 0, 0, 0]).is_err(), "compressed");
        assert!(message_len(&[0, 255, 255, 255, 255]).is_err(), "too long");
    }

    #[test]
    fn messages_lose_their_percent_encoding() {
        assert_eq!(plain("a%20b%e6%97%a5"), "a b\u{65e5}");
        assert_eq!(plain("100%"), "100%");
        assert_eq!(plain("%zz%4"), "%zz%4");
        assert_eq!(plain(&"x".repeat(9_000)).len(), MESSAGE_LEN_MAX);
    }

    proptest! {
        #[test]
        fn no_text_of_a_server_makes_it_panic(text in "\\PC{0,40}", bytes: Vec<u8>) {
            plain(&text);
            message_len(&bytes).ok();
            decode::<super::super::proto::WatchResponse>(bytes.into()).ok();
        }
    }
}
