//! Whatever can be wrong with credentials and addresses, end to end: text, advice, exit code,
//! and nothing of a key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dwcp_runtime::clock::ManualClock;
use dwcp_types::Timestamp;

use crate::fixtures;
use crate::snapshot::{check, without_moments};
use crate::stage::{Ran, Stage, issue_admin, now, plain, reply, run_in};

async fn stage() -> Stage {
    Stage::with(vec![("get_status", reply(&fixtures::status()))]).await
}

fn shown(ran: &Ran) -> String {
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert!(!ran.shown().contains("PRIVATE KEY"));
    without_moments(&ran.shown())
}

fn ca_of(stage: &Stage) -> PathBuf {
    stage.folder.path().join("ca")
}

fn before_now(hours: u64) -> Timestamp {
    Timestamp::from_millis(
        now().as_millis() - Duration::from_hours(hours).as_secs() * 1_000,
    )
}

#[tokio::test]
async fn an_expired_certificate_is_told_with_the_command_that_renews_it() {
    let stage = stage().await;
    issue_admin(&ca_of(&stage), &stage.credentials(), before_now(10), 2);
    check("credentials-expired", &shown(&stage.run(&["status"]).await));
    assert!(stage.asked().is_empty());
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_points_to_the_clock() {
    let stage = stage().await;
    let later = now().plus(Duration::from_hours(2));
    issue_admin(&ca_of(&stage), &stage.credentials(), later, 2);
    check("credentials-not-yet", &shown(&stage.run(&["status"]).await));
}

#[tokio::test]
async fn the_servers_refusal_of_a_foreign_certificate_is_understood() {
    let stage = stage().await;
    let folder = stage.credentials();
    let ours = fs::read(folder.join("ca.crt")).unwrap();
    issue_admin(&stage.folder.path().join("other-ca"), &folder, now(), 2);
    let foreign = stage.run(&["status"]).await;
    check("credentials-foreign-ca", &shown(&foreign));
    // Trusting the right CA with the wrong certificate: now the server is the one to refuse.
    fs::write(folder.join("ca.crt"), ours).unwrap();
    check("credentials-foreign-certificate", &shown(&stage.run(&["status"]).await));
    assert!(stage.asked().is_empty());
}

/// This machine's clock is late, so only the server sees that the certificate has expired.
#[tokio::test]
async fn the_servers_refusal_of_an_expired_certificate_is_understood() {
    let stage = stage().await;
    issue_admin(&ca_of(&stage), &stage.credentials(), before_now(10), 2);
    let surroundings = dwcp_cli::Surroundings {
        clock: Arc::new(ManualClock::new(before_now(9))),
        credentials: Some(stage.credentials()),
        ..plain()
    };
    let mut ran = run_in(surroundings, &["status"]).await;
    ran.err = ran.err.replace(&stage.address.to_string(), "<address>");
    check("credentials-expired-at-server", &shown(&ran));
    assert!(stage.asked().is_empty());
}

#[tokio::test]
async fn missing_files_are_named() {
    let stage = stage().await;
    fs::remove_file(stage.credentials().join("admin.key")).unwrap();
    check("credentials-no-key", &shown(&stage.run(&["status"]).await));
    let ran = run_in(plain(), &["status", "--credentials", "/nonexistent"]).await;
    check("credentials-no-folder", &shown(&ran));
    check("credentials-no-home", &shown(&run_in(plain(), &["status"]).await));
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    let stage = stage().await;
    let key = stage.credentials().join("admin.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    check("credentials-exposed-key", &shown(&stage.run(&["status"]).await));
    check("credentials-exposed-key-who", &shown(&stage.run(&["credentials"]).await));
}

#[tokio::test]
async fn files_that_are_something_else_are_refused_without_showing_them() {
    let stage = stage().await;
    for name in ["admin.crt", "ca.crt"] {
        let path = stage.credentials().join(name);
        let good = fs::read(&path).unwrap();
        fs::write(&path, "SECRET").unwrap();
        let ran = stage.run(&["status"]).await;
        assert_eq!(ran.code, 6, "{name}");
        assert!(ran.err.contains(name) && !ran.err.contains("SECRET"), "{}", ran.err);
        fs::write(&path, good).unwrap();
    }
    let key = stage.credentials().join("admin.key");
    fs::write(&key, "SECRET").unwrap();
    let ran = stage.run(&["status"]).await;
    assert!(ran.code == 6 && !ran.err.contains("SECRET"), "{}", ran.err);
}

#[tokio::test]
async fn addresses_are_tried_in_order_and_what_is_none_is_told() {
    let stage = stage().await;
    let endpoints = stage.credentials().join("endpoints");
    let live = format!("https://{}", stage.address);
    // Nothing listens on the discard port of this machine.
    let dead = "https://127.0.0.1:9";
    fs::write(&endpoints, format!("{dead}\n{live}\n")).unwrap();
    assert_eq!(stage.run(&["status"]).await.code, 0);
    fs::write(&endpoints, format!("{dead}\n")).unwrap();
    assert_eq!(
        stage.run(&["status", "--endpoint", dead, "--endpoint", &live]).await.code,
        0
    );
    check("unreachable", &shown(&stage.run(&["status"]).await));
    fs::write(&endpoints, "# none\n").unwrap();
    check("endpoints-empty", &shown(&stage.run(&["status"]).await));
    fs::remove_file(&endpoints).unwrap();
    check("endpoints-missing", &shown(&stage.run(&["status"]).await));
    let ran = stage.run(&["status", "--endpoint", "http://a"]).await;
    assert_eq!(ran.code, 2);
    check("endpoint-wrong", &ran.shown());
}

#[tokio::test]
async fn little_time_left_is_told() {
    let stage = stage().await;
    let folder = stage.credentials();
    issue_admin(&ca_of(&stage), &folder, before_now(1), 2);
    let ran = stage.run(&["credentials"]).await;
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("renew them: `./dwcp renew`"), "{}", ran.err);
    assert!(stage.run(&["credentials", "-o", "json"]).await.out.contains("not_after"));
}

#[tokio::test]
async fn no_output_holds_a_key() {
    let stage = stage().await;
    let key = fs::read_to_string(stage.credentials().join("admin.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    for format in ["table", "wide", "json", "yaml"] {
        for command in ["credentials", "status"] {
            let ran = stage.run(&[command, "-o", format]).await;
            assert!(!ran.shown().contains(secret), "{command} -o {format}");
        }
    }
}
