//! Tells others by HTTP: one signed POST, bounded in time, and what came of it in words.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use dwcp_types::Timestamp;
use http::{Request, Uri};
use ring::hmac;
use tokio::time::timeout;

use crate::outside::{AGENT, Outside};

/// The header with [`signature`] of the body.
pub const SIGNATURE_HEADER: &str = "x-dwcp-signature";
/// The header by which a receiver knows a message that it has already.
pub const KEY_HEADER: &str = "idempotency-key";

/// Sends messages to one receiver.
#[derive(Debug)]
pub struct Webhook {
    outside: Outside,
}

impl Webhook {
    /// One that trusts the certificates of a PEM file, or of the system.
    ///
    /// # Errors
    ///
    /// As [`Outside::new`].
    pub fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        Ok(Self { outside: Outside::new(ca_file)? })
    }

    /// Sends one message, all within `time_max`. `key` is the same each time that it is sent.
    ///
    /// # Errors
    ///
    /// In words, without the address, which may be a secret: also when it was answered with
    /// another status than 2xx.
    pub async fn send(
        &self,
        url: &str,
        (key, secret): (&str, Option<&[u8]>),
        body: Bytes,
        time_max: Duration,
    ) -> Result<(), String> {
        let uri: Uri = url.parse().map_err(|_| "the address is none".to_owned())?;
        let mut request = Request::post(uri)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::USER_AGENT, AGENT)
            .header(KEY_HEADER, key);
        if let Some(secret) = secret {
            request = request.header(SIGNATURE_HEADER, signature(secret, &body));
        }
        let request = request.body(body).map_err(|error| error.to_string())?;
        let answer = timeout(time_max, self.outside.head(request)).await;
        let answer = answer.map_err(|_| format!("no answer within {time_max:?}"))?;
        let status = answer?.status();
        if status.is_success() {
            return Ok(());
        }
        Err(format!("it answered {status}"))
    }
}

/// The HMAC-SHA256 of a body, `sha256=` and 64 digits: what receivers compare.
#[must_use]
pub fn signature(secret: &[u8], body: &[u8]) -> String {
    use std::fmt::Write as _;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, body);
    tag.as_ref().iter().fold("sha256=".to_owned(), |mut text, byte| {
        // Writing into a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

/// A moment as receivers write it (RFC 3339); the epoch for one that no calendar has.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// RFC 4231, test case 2.
    #[test]
    fn the_signature_is_the_one_that_everybody_means() {
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn moments_are_written_as_others_read_them() {
        let written = |millis| rfc3339(Timestamp::from_millis(millis));
        assert_eq!(written(1_764_417_000_123), "2025-11-29T11:50:00.123Z");
        assert_eq!(written(u64::MAX), "1970-01-01T00:00:00Z");
    }

    const SILENCE: Duration = Duration::from_millis(500);

    /// Where somebody will answer.
    async fn receiver() -> (String, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        (url, listener)
    }

    async fn serve(listener: TcpListener, answer: Option<&'static str>) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"{}") {
            let mut part = [0; 4_096];
            let len = stream.read(&mut part).await.unwrap();
            asked.extend(&part[..len]);
        }
        if let Some(answer) = answer {
            stream.write_all(answer.as_bytes()).await.unwrap();
        } else {
            std::future::pending::<()>().await;
        }
        String::from_utf8(asked).unwrap()
    }

    async fn tried(answer: Option<&'static str>) -> (Result<(), String>, String) {
        let (url, listener) = receiver().await;
        let served = tokio::spawn(serve(listener, answer));
        let hook = Webhook::new(None).unwrap();
        let body = Bytes::from_static(b"{}");
        let how = ("INC-001.1", Some(&b"secret"[..]));
        // Only silence is waited for to its end.
        let time = answer.map_or(SILENCE, |_| Duration::from_secs(60));
        let sent = hook.send(&url, how, body, time).await;
        let asked = if answer.is_some() { served.await.unwrap() } else { String::new() };
        (sent, asked)
    }

    #[tokio::test]
    async fn a_message_carries_its_key_and_its_signature() {
        let (sent, asked) = tried(Some("HTTP/1.1 204 No Content\r\n\r\n")).await;
        assert_eq!(sent, Ok(()));
        let expected = signature(b"secret", b"{}");
        assert!(asked.starts_with("POST /hook HTTP/1.1"), "{asked}");
        assert!(asked.contains(&format!("{SIGNATURE_HEADER}: {expected}")), "{asked}");
        assert!(asked.contains(&format!("{KEY_HEADER}: INC-001.1")), "{asked}");
    }

    #[tokio::test]
    async fn errors_redirects_silence_and_nobody_are_told_apart() {
        let failed = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
        let (sent, _) = tried(Some(failed)).await;
        assert_eq!(sent, Err("it answered 500 Internal Server Error".to_owned()));
        let moved = "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n";
        let (sent, _) = tried(Some(moved)).await;
        assert_eq!(sent, Err("it answered 302 Found".to_owned()));
        let (sent, _) = tried(None).await;
        assert_eq!(sent, Err("no answer within 500ms".to_owned()));
        let (url, listener) = receiver().await;
        drop(listener);
        let hook = Webhook::new(None).unwrap();
        let time = Duration::from_secs(60);
        let nobody = hook.send(&url, ("k", None), Bytes::new(), time).await.unwrap_err();
        assert!(nobody.contains("refused"), "{nobody}");
        assert!(Webhook::new(Some(Path::new("/nowhere/ca.pem"))).is_err());
    }
}
