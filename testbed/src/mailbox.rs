//! A mail server for tests, on loopback: takes letters, keeps them, and refuses when it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longest letter that is kept.
const LETTER_LEN_MAX: usize = 1 << 20;

/// One letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Whose the envelope says that it is.
    pub from: String,
    /// For whom.
    pub to: Vec<String>,
    /// Its headers and body as they came, a line each.
    pub lines: Vec<String>,
}

impl Mail {
    /// A header's value, of one that is not folded.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.lines.iter().take_while(|line| !line.is_empty());
        let mut values =
            head.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        values.next()
    }

    /// The body without the ends of its lines: base64, as it came.
    #[must_use]
    pub fn body(&self) -> String {
        self.lines
            .iter()
            .skip_while(|line| !line.is_empty())
            .map(String::as_str)
            .collect()
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// Whom it refuses, and with which answer.
    refused: Option<(String, String)>,
    mails: Vec<Mail>,
}

/// See the module. It ends with this value.
#[derive(Debug)]
pub struct Mailbox {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mailbox {
    /// Begins to listen.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        let kept = Arc::new(Mutex::new(Kept::default()));
        let task = tokio::spawn(serve(listener, Arc::clone(&kept)));
        Self { address, kept, task }
    }

    /// Where it listens, `host:port`.
    #[must_use]
    pub fn server(&self) -> String {
        self.address.to_string()
    }

    /// Refuses this recipient with this answer from now on; nobody when there is none.
    pub fn refuse(&self, refused: Option<(&str, &str)>) {
        let owned = |(to, answer): (&str, &str)| (to.to_owned(), answer.to_owned());
        lock(&self.kept).refused = refused.map(owned);
    }

    /// What came so far.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        lock(&self.kept).mails.clone()
    }
}

async fn serve(listener: TcpListener, kept: Arc<Mutex<Kept>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            // Whoever goes away midway has sent no letter.
            drop(take(stream, &kept).await);
        });
    }
}

async fn take(stream: TcpStream, kept: &Mutex<Kept>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 mailbox ESMTP\r\n").await?;
    let blank = || Mail { from: String::new(), to: Vec::new(), lines: Vec::new() };
    let mut mail = blank();
    while let Some(line) = lines.next_line().await? {
        let inner = |line: &str| {
            let inner = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
            inner.map_or_else(String::new, |(address, _)| address.to_owned())
        };
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" | "HELO" => "250-mailbox\r\n250 8BITMIME".to_owned(),
            "MAIL" => {
                mail = Mail { from: inner(&line), ..blank() };
                "250 ok".to_owned()
            }
            "RCPT" => {
                let to = inner(&line);
                let refused = lock(kept).refused.clone().filter(|(whom, _)| *whom == to);
                match refused {
                    Some((_, answer)) => answer,
                    None => {
                        mail.to.push(to);
                        "250 ok".to_owned()
                    }
                }
            }
            "DATA" if mail.to.is_empty() => "503 nobody wants it".to_owned(),
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                let mut len = 0;
                while let Some(line) = lines.next_line().await? {
                    len += line.len();
                    if line == "." || len > LETTER_LEN_MAX {
                        break;
                    }
                    mail.lines.push(line.strip_prefix('.').unwrap_or(&line).to_owned());
                }
                lock(kept).mails.push(std::mem::replace(&mut mail, blank()));
                "250 taken".to_owned()
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "500 what?".to_owned(),
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
