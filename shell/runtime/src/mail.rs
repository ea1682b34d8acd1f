//! Tells people by mail: one letter, one recipient, one server that takes it further.
//!
//! The part of SMTP that this needs (RFC 5321, 3207, 4954): greet, go over to TLS, say who one is,
//! hand over. A server that should speak TLS and does not is told nothing, neither a password nor a
//! letter. What it says in the clear after it agreed to TLS is refused, because anybody on the way
//! could have said it. Answers and times are bounded: a letter is handed over quickly or not at all,
//! and who has it may take its time to say so, or it would be sent again.
//!
//! Rejected: lettre (docs/adr/0020).

mod letter;
#[cfg(test)]
mod tests;

pub use letter::Letter;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::ServerName;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::outside::trusting;

/// Bytes of one answer: RFC 5321 has lines of 512 and servers say some lines.
const ANSWER_LEN_MAX: usize = 8_192;
/// Longest reason that is told, in characters.
const REASON_LEN_MAX: usize = 200;
/// Addresses of a server that are tried.
const ADDRESSES_MAX: usize = 4;
/// Longest address (RFC 5321 has 254).
const ADDRESS_LEN_MAX: usize = 254;

/// Times that one letter may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// To connect to one address of the server.
    connect: Duration,
    /// Until the server wants the letter: what the receivers of webhooks have too.
    hand_over: Duration,
    /// To hear it and say that it has it (RFC 5321, 4.5.3.2.6).
    taken: Duration,
}

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(3),
    hand_over: Duration::from_secs(10),
    taken: Duration::from_mins(10),
};

/// An address of somebody: ASCII, one `@`, nothing that could end a command or a header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Address(String);

/// What is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write an address such as ops@example.com, without a name or brackets")]
pub struct AddressError;

impl Address {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("localhost", |(_, domain)| domain)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.split_once('@').ok_or(AddressError)?;
        // The atoms of RFC 5321, without quoted ones.
        let local_sign =
            |c: u8| c.is_ascii_alphanumeric() || b".!#$%&'*+-/=?^_`{|}~".contains(&c);
        let domain_sign = |c: u8| c.is_ascii_alphanumeric() || b".-".contains(&c);
        let is_one = text.len() <= ADDRESS_LEN_MAX
            && !local.is_empty()
            && !domain.is_empty()
            && local.bytes().all(local_sign)
            && domain.bytes().all(domain_sign);
        if is_one { Ok(Self(text.to_owned())) } else { Err(AddressError) }
    }
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// In the clear until it agrees to TLS, which it must.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// In the clear: only to this machine.
    None,
}

/// Where letters are handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub security: Security,
}

/// Hands letters over to one server.
pub struct Mailer {
    server: Server,
    tls: TlsConnector,
    limits: Limits,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Who one is at a server.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// As whom.
    pub username: &'a str,
    /// The secret.
    pub password: &'a [u8],
}

impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Mailer {
    /// One that trusts the certificates of a PEM file, or of the system.
    ///
    /// # Errors
    ///
    /// When the file that is named cannot be used.
    pub fn new(server: Server, ca_file: Option<&Path>) -> Result<Self, String> {
        let tls = trusting(ca_file)?;
        Ok(Self { server, tls: TlsConnector::from(Arc::new(tls)), limits: LIMITS })
    }

    /// Hands one letter over.
    ///
    /// # Errors
    ///
    /// In words: what the server said, or why it was not understood.
    pub async fn send(
        &self,
        letter: &Letter,
        (from, to): (&Address, &Address),
        login: Option<Login<'_>>,
    ) -> Result<(), String> {
        let Limits { connect: each, hand_over, taken } = self.limits;
        let place = (self.server.host.as_str(), self.server.port);
        let all = timeout(hand_over, lookup_host(place)).await;
        let all = all.map_err(|_| "its name is not found in time".to_owned())?;
        let all = all.map_err(|error| error.to_string())?.take(ADDRESSES_MAX);
        let stream = connect(all, each).await?;
        let own = stream.local_addr().map_err(|error| error.to_string())?;
        let handed = Handed { letter: letter.encode(from, to), from, to, login, own };
        let said = timeout(hand_over, self.ready(stream, &handed)).await;
        let mut talk = said.map_err(|_| format!("no answer within {hand_over:?}"))??;
        // From here on it may have all of the letter, whatever this side knows of that.
        let said = timeout(taken, talk.ask(&handed.end(), 2)).await;
        said.map_err(|_| format!("it has the letter and says nothing for {taken:?}"))??;
        // It has the letter: what it says to the farewell changes nothing.
        drop(timeout(hand_over, talk.say("QUIT")).await);
        Ok(())
    }

    /// Comes as far as to the letter itself.
    async fn ready(
        &self,
        stream: TcpStream,
        handed: &Handed<'_>,
    ) -> Result<Talk<Box<dyn Wire>>, String> {
        let mut talk = self.greeted(stream, handed.own).await?;
        handed.announced(&mut talk).await?;
        Ok(talk)
    }

    /// What is spoken on as the server is to be spoken to, after its greeting.
    async fn greeted(
        &self,
        stream: TcpStream,
        own: SocketAddr,
    ) -> Result<Talk<Box<dyn Wire>>, String> {
        let wire: Box<dyn Wire> = match self.server.security {
            Security::None => Box::new(stream),
            Security::Tls => Box::new(self.secured(stream).await?),
            Security::StartTls => {
                let mut talk = Talk::new(stream);
                talk.answer(2).await?;
                let can = talk.ask(&format!("EHLO {}", literal(own)), 2).await?;
                if !can.lines().any(|line| line.eq_ignore_ascii_case("STARTTLS")) {
                    return Err("it does not offer STARTTLS".to_owned());
                }
                talk.ask("STARTTLS", 2).await?;
                let stream = self.secured(talk.into_inner()?).await?;
                return Ok(Talk::new(Box::new(stream)));
            }
        };
        let mut talk = Talk::new(wire);
        talk.answer(2).await?;
        Ok(talk)
    }

    async fn secured(
        &self,
        stream: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(self.server.host.clone());
        let name = name.map_err(|_| "its name is none for TLS".to_owned())?;
        self.tls.connect(name, stream).await.map_err(|error| error.to_string())
    }
}

/// A connection, in the clear or not.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Connects to the first address that answers in time.
async fn connect(
    all: impl Iterator<Item = SocketAddr> + Send,
    each: Duration,
) -> Result<TcpStream, String> {
    let mut reason = "its name has no address".to_owned();
    for address in all {
        match timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => reason = format!("no answer within {each:?}"),
        }
    }
    Err(reason)
}

/// A letter on its way.
struct Handed<'a> {
    letter: String,
    from: &'a Address,
    to: &'a Address,
    login: Option<Login<'a>>,
    own: SocketAddr,
}

impl Handed<'_> {
    /// From the greeting to where the letter is wanted.
    async fn announced<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        talk: &mut Talk<S>,
    ) -> Result<(), String> {
        talk.ask(&format!("EHLO {}", literal(self.own)), 2).await?;
        if let Some(Login { username, password }) = self.login {
            let plain = [b"\0", username.as_bytes(), b"\0", password].concat();
            let login = format!("AUTH PLAIN {}", STANDARD.encode(plain));
            talk.ask(&login, 2).await.map_err(|error| login_refused(&error))?;
        }
        talk.ask(&format!("MAIL FROM:<{}>", self.from.as_str()), 2).await?;
        talk.ask(&format!("RCPT TO:<{}>", self.to.as_str()), 2).await?;
        talk.ask("DATA", 3).await.map(drop)
    }

    /// The letter with its end; its last line has one.
    fn end(&self) -> String {
        format!("{}.", self.letter)
    }
}

/// Why a login is refused, without the words of the server: some say again what they were told,
/// and that is the password.
fn login_refused(error: &str) -> String {
    let code = error.strip_prefix("it answered ").and_then(|rest| rest.split(' ').next());
    match code {
        Some(code) => format!("it answered {code} to the login"),
        None => error.to_owned(),
    }
}

/// This machine as a server is told of it: its address on the line (RFC 5321, 4.1.3).
fn literal(own: SocketAddr) -> String {
    match own {
        SocketAddr::V4(own) => format!("[{}]", own.ip()),
        SocketAddr::V6(own) => format!("[IPv6:{}]", own.ip()),
    }
}

/// A connection on which both say lines.
struct Talk<S> {
    stream: S,
    /// What came and was not read yet.
    rest: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    const fn new(stream: S) -> Self {
        Self { stream, rest: Vec::new() }
    }

    async fn say(&mut self, line: &str) -> Result<(), String> {
        let whole = format!("{line}\r\n");
        let said = self.stream.write_all(whole.as_bytes()).await;
        said.map_err(|error| error.to_string())?;
        self.stream.flush().await.map_err(|error| error.to_string())
    }

    /// Says a line and gives the answer, whose code must begin so.
    async fn ask(&mut self, line: &str, class: u8) -> Result<String, String> {
        self.say(line).await?;
        self.answer(class).await
    }

    /// An answer without its codes, a line each.
    async fn answer(&mut self, class: u8) -> Result<String, String> {
        let mut words = Vec::new();
        let mut len = 0;
        loop {
            let line = self.line().await?;
            len += line.len();
            let (code, rest) = line.split_at_checked(3).unwrap_or((&line, ""));
            let is_code = code.len() == 3 && code.bytes().all(|c| c.is_ascii_digit());
            if !is_code || len > ANSWER_LEN_MAX {
                return Err("its answer is none of SMTP".to_owned());
            }
            let (last, said) = match rest.strip_prefix('-') {
                Some(said) => (false, said),
                None => (true, rest.strip_prefix(' ').unwrap_or(rest)),
            };
            words.push(said.to_owned());
            if last {
                let said = words.join("\n");
                if code.as_bytes().first() == Some(&(b'0' + class)) {
                    return Ok(said);
                }
                return Err(shown(&format!("it answered {code} {}", words.join(" "))));
            }
        }
    }

    async fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
            }
            if self.rest.len() > ANSWER_LEN_MAX {
                return Err("its answer has no end".to_owned());
            }
            let mut part = [0; 1_024];
            let read = self.stream.read(&mut part).await;
            let len = read.map_err(|error| error.to_string())?;
            if len == 0 {
                return Err("it closed the connection".to_owned());
            }
            self.rest.extend(part.iter().take(len));
        }
    }

    /// The connection, when nothing was said on it that was not asked for.
    fn into_inner(self) -> Result<S, String> {
        if self.rest.is_empty() {
            Ok(self.stream)
        } else {
            Err("it said more in the clear after it agreed to TLS".to_owned())
        }
    }
}

/// What others said, as it may be shown.
fn shown(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(REASON_LEN_MAX).collect()
}
