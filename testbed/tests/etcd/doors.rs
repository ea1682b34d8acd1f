//! Who may ask a member, and which members are asked.

use std::sync::Arc;

use dwcp_runtime::clock::SystemClock;
use dwcp_runtime::strong::etcd::command::{CLIENT_NAME, PEER_NAME};
use dwcp_runtime::strong::{EtcdEngine, Op, StrongEngine, StrongError, Txn};
use dwcp_runtime::tls::Identity;
use dwcp_testbed::EtcdCluster;
use dwcp_types::RegionId;

fn region(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_that_names_the_door_comes_in() {
    let Some(cluster) = EtcdCluster::start(1).await else { return };
    cluster.engine_on_all().get("k").await.unwrap();
    let host = Identity::Host { region: region("daemon"), host: "h".parse().unwrap() };
    let cases = [
        (Identity::Admin("eve".to_owned()), "laptop.example"),
        (host, "agent.example"),
        (Identity::Engine(region("m0")), PEER_NAME),
    ];
    for (n, (who, name)) in cases.into_iter().enumerate() {
        let credentials = cluster.issue(&who, name, &format!("other-{n}"));
        let addresses = cluster.addresses_as(&credentials, &[0]);
        let clock = Arc::new(SystemClock::new());
        let engine = EtcdEngine::new(addresses, "test", clock).unwrap();
        let put = Txn { then: vec![Op::put("k", "v")], ..Txn::default() };
        let refused = engine.txn(put).await.unwrap_err();
        assert!(matches!(refused, StrongError::Unavailable { .. }), "{who}: {refused}");
        assert!(engine.get("k").await.is_err(), "{who}");
    }
    assert!(cluster.engine_on_all().get("k").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_somebody_else_is_not_asked() {
    let Some(cluster) = EtcdCluster::start(1).await else { return };
    let daemon = Identity::Region(region("daemon"));
    let credentials = cluster.issue(&daemon, CLIENT_NAME, "daemon");
    let mut addresses = cluster.addresses_as(&credentials, &[0]);
    addresses[0].tls = dwcp_runtime::tls::ClientTls::load(
        credentials,
        dwcp_runtime::tls::ExpectedServer::Identity(Identity::Engine(region("m7"))),
    )
    .unwrap();
    let clock = Arc::new(SystemClock::new());
    let engine = EtcdEngine::new(addresses, "test", clock).unwrap();
    let refused = engine.get("k").await.unwrap_err();
    assert!(matches!(refused, StrongError::Unavailable { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_another_cluster_are_refused_by_name() {
    let Some(one) = EtcdCluster::start(1).await else { return };
    let Some(mut other) = EtcdCluster::start(1).await else { return };
    let mut addresses = one.addresses(&[0]);
    addresses.extend(other.addresses(&[0]));
    let clock = Arc::new(SystemClock::new());
    let engine = EtcdEngine::new(addresses, "test", clock).unwrap();
    engine.get("k").await.unwrap();
    let states = engine.survey().await;
    let reason = states[1].said.clone().unwrap_err();
    assert!(reason.contains("belongs to cluster"), "{reason}");
    other.process(0).kill_9();
}
