//! `monitoring dashboard`: what a Grafana is asked, and what its answers mean. The Grafana here is
//! a few lines that keep the request; no Grafana itself is run.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::snapshot::check;
use crate::stage::{Ran, plain, run_in};

/// Somebody at an address who answers so many requests with this.
struct Grafana {
    address: SocketAddr,
    served: JoinHandle<Vec<(String, Vec<u8>)>>,
}

impl Grafana {
    fn answering(answers: Vec<(&'static str, Value)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            let serve = |(status, body): (&str, Value)| {
                let (mut stream, _) = listener.accept().unwrap();
                let asked = request(&mut stream);
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nlocation: /login\r\n\
                     connection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(head.as_bytes()).unwrap();
                asked
            };
            answers.into_iter().map(serve).collect()
        });
        Self { address, served }
    }

    /// Runs an import, and gives what was asked too.
    async fn import(self, words: &[&str]) -> (Ran, Vec<(String, Vec<u8>)>) {
        let url = format!("http://{}/grafana/", self.address);
        let all = ["federation", "monitoring", "dashboard", "import", "--grafana", &url];
        let all: Vec<&str> = all.iter().chain(words).copied().collect();
        let mut ran = run_in(plain(), &all).await;
        for text in [&mut ran.out, &mut ran.err] {
            *text = text.replace(&self.address.to_string(), "<address>");
        }
        (ran, self.served.join().unwrap())
    }
}

/// The head in lower case, and the body.
fn request(stream: &mut impl Read) -> (String, Vec<u8>) {
    let mut read = Vec::new();
    let mut part = [0; 4_096];
    loop {
        let len = stream.read(&mut part).unwrap();
        assert_ne!(len, 0, "the request broke off");
        read.extend(&part[..len]);
        let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8(read[..end].to_vec()).unwrap().to_lowercase();
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let len: usize = len.map_or(0, |len| len.parse().unwrap());
        if read.len() >= end + 4 + len {
            return (head, read.split_off(end + 4));
        }
    }
}

fn taken(uid: &str) -> (&'static str, Value) {
    let url = format!("/grafana/d/{uid}/x");
    ("200 OK", json!({ "uid": uid, "url": url, "version": 3, "status": "success" }))
}

fn folder() -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "glsa_secret\n").unwrap();
    (folder, token.display().to_string())
}

/// O11, with the source's names.
#[tokio::test]
async fn dashboards_are_sent_as_grafana_takes_them() {
    let (_folder, token) = folder();
    let grafana =
        Grafana::answering(vec![taken("federation-overview"), taken("global-routing")]);
    let words = [
        "--file",
        "federation-overview.json",
        "--file",
        "routing-dashboard.json",
        "--token-file",
        &token,
        "--folder",
        "ops",
        "--overwrite",
    ];
    let (ran, asked) = grafana.import(&words).await;
    assert_eq!(ran.code, 0, "{}", ran.shown());
    check("dashboard-import", &ran.shown());
    let files = ["federation-overview", "global-routing"];
    for ((head, body), name) in asked.iter().zip(files) {
        assert!(head.starts_with("post /grafana/api/dashboards/db http/1.1"), "{head}");
        assert!(head.contains("authorization: bearer glsa_secret"), "{head}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let body: Value = serde_json::from_slice(body).unwrap();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = folder.join(format!("../../deploy/grafana/{name}.json"));
        let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(body["dashboard"], file);
        assert_eq!(body["folderUid"], "ops");
        assert_eq!(body["overwrite"], true);
    }
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn what_grafana_refuses_is_told_with_what_to_do() {
    let said = |message: &str| json!({ "message": message });
    let exists = json!({ "message": "A dashboard with the same name exists", "status": "name-exists" });
    let changed = json!({ "message": "The dashboard has been changed by someone else", "status": "version-mismatch" });
    let cases = [
        ("401", "401 Unauthorized", said("Invalid API key"), 3),
        ("403", "403 Forbidden", said("permissions needed: dashboards:create"), 3),
        ("404", "404 Not Found", said("folder not found"), 4),
        ("412", "412 Precondition Failed", changed, 5),
        ("412-name", "412 Precondition Failed", exists, 5),
        ("302", "302 Found", Value::Null, 1),
        ("500", "500 Internal Server Error", said("\u{1b}[31mred"), 1),
        ("200-other", "200 OK", json!("hello"), 1),
    ];
    let mut all = String::new();
    for (name, status, body, code) in cases {
        let grafana = Grafana::answering(vec![(status, body)]);
        let (ran, asked) = grafana.import(&["state-sync"]).await;
        assert_eq!(ran.code, code, "{name}: {}", ran.shown());
        assert_eq!(asked.len(), 1, "no redirect is followed");
        assert!(!asked[0].0.contains("authorization"), "there is no token");
        all.push_str(&format!("## {name}\n{}", ran.shown()));
    }
    check("dashboard-import-refused", &all);
}

#[tokio::test]
async fn a_dry_run_asks_nobody() {
    let grafana = Grafana::answering(Vec::new());
    let words = ["federation-overview", "routing-dashboard", "--dry-run", "-o", "json"];
    let (ran, asked) = grafana.import(&words).await;
    assert_eq!((ran.code, asked.len()), (0, 0), "{}", ran.shown());
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told[1]["uid"], "global-routing");
    assert!(told[1].get("url").is_none());
}

#[tokio::test]
async fn what_is_written_wrongly_is_refused_before_anybody_is_asked() {
    let (folder, token) = folder();
    let of = |name: &str| folder.path().join(name).display().to_string();
    let (list, empty) = (of("list.json"), of("empty"));
    std::fs::write(&list, "[]").unwrap();
    std::fs::write(&empty, "\n").unwrap();
    let import = ["monitoring", "dashboard", "import"];
    let at = ["--grafana", "https://grafana.example.com"];
    let cases: [&[&str]; 7] = [
        &["nothing-such", at[0], at[1]],
        &["--file", "/nowhere/federation-overview.json", at[0], at[1]],
        &["--file", &list, at[0], at[1]],
        &["state-sync", at[0], at[1], "--token-file", &empty],
        &["state-sync", at[0], "grafana.example.com"],
        &["state-sync", at[0], "https://admin:admin@grafana.example.com"],
        &[
            "state-sync",
            at[0],
            at[1],
            "--ca-file",
            "/nowhere/ca.pem",
            "--token-file",
            &token,
        ],
    ];
    let mut all = String::new();
    for words in cases {
        let words: Vec<&str> = import.iter().chain(words).copied().collect();
        let ran = run_in(plain(), &words).await;
        assert_ne!(ran.code, 0, "{}", ran.shown());
        all.push_str(&ran.shown().replace(&folder.path().display().to_string(), "<dir>"));
    }
    check("dashboard-import-wrong", &all);
}

#[tokio::test]
async fn dashboards_are_listed_printed_and_written() {
    let ran = run_in(plain(), &["monitoring", "dashboard", "list"]).await;
    check("dashboard-list", &ran.shown());
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("new").display().to_string();
    let export = ["monitoring", "dashboard", "export", "--dir", &dir];
    let first = run_in(plain(), &export).await;
    assert_eq!(first.code, 0, "{}", first.shown());
    let again = run_in(plain(), &export).await;
    assert_eq!(again.code, 5, "{}", again.shown());
    let over: Vec<&str> = export.iter().chain(&["--overwrite"]).copied().collect();
    assert_eq!(run_in(plain(), &over).await.code, 0);
    let one = run_in(plain(), &["monitoring", "dashboard", "export", "state-sync"]).await;
    let file = folder.path().join("new/state-sync.json");
    assert_eq!(one.out, std::fs::read_to_string(file).unwrap());
    let shown = format!("{}{}", first.shown(), again.shown());
    check(
        "dashboard-export",
        &shown.replace(&folder.path().display().to_string(), "<dir>"),
    );
}
