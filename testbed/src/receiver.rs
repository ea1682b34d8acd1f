//! Somebody who is told of incidents by HTTP: keeps what came, and answers as a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longest request that is read.
const REQUEST_LEN_MAX: usize = 1 << 20;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// With this status.
    Status(u16),
    /// By closing the connection.
    Nothing,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its head: the request line and the headers, in lower case.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
    /// What it was answered.
    pub answered: Answers,
}

impl Received {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim())
    }
}

#[derive(Debug)]
struct Kept {
    answers: Answers,
    received: Vec<Received>,
}

/// See the module. It ends with this value.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Begins to listen on loopback.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        let received = Vec::new();
        let kept = Arc::new(Mutex::new(Kept { answers, received }));
        let task = tokio::spawn(serve(listener, Arc::clone(&kept)));
        Self { address, kept, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/incidents", self.address)
    }

    /// Answers so from now on.
    pub fn answer(&self, answers: Answers) {
        lock(&self.kept).answers = answers;
    }

    /// What came so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.kept).received.clone()
    }
}

async fn serve(listener: TcpListener, kept: Arc<Mutex<Kept>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            // Whoever goes away meanwhile is not there to be told.
            drop(take(stream, &kept).await);
        });
    }
}

async fn take(mut stream: TcpStream, kept: &Mutex<Kept>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        if let Some(whole) = whole(&bytes) {
            break whole;
        }
        let mut part = [0; 4_096];
        let len = stream.read(&mut part).await?;
        if len == 0 || bytes.len() > REQUEST_LEN_MAX {
            return Ok(());
        }
        bytes.extend(part.iter().take(len));
    };
    let answered = {
        let mut kept = lock(kept);
        let answered = kept.answers;
        kept.received.push(Received { head, body, answered });
        answered
    };
    if let Answers::Status(status) = answered {
        let text = format!(
            "HTTP/1.1 {status} So\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// Head and body, once all of both is there.
fn whole(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(bytes.get(..end)?).to_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let len: usize = len.and_then(|len| len.trim().parse().ok()).unwrap_or(0);
    let body = bytes.get(end + 4..)?.get(..len)?.to_vec();
    Some((head, body))
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
