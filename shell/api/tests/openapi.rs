//! The checked-in OpenAPI documents are what the code declares. After a wanted change run
//! `BLESS=1 cargo test -p dwcp-api --test openapi` and look at the difference.

use std::path::Path;

use dwcp_api::{
    Described, controller, document, engine, evacuation, failover, host, measured,
    migration, monitoring, otlp, overview, peer, public, routing, shards, silence, sla,
    state, trace,
};

fn compare(name: &str, title: &str, described: &[Described]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi").join(name);
    let document = document(title, "1", described);
    let text = format!("{document:#}\n");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).expect("the document can be written");
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == checked_in,
        "openapi/{name} is stale; run `BLESS=1 cargo test -p dwcp-api --test openapi`"
    );
}

#[test]
fn the_operators_document_is_current() {
    let mut described = public::described();
    described.extend(failover::described());
    described.extend(state::described());
    described.extend(shards::described());
    described.extend(migration::described());
    described.extend(evacuation::described());
    described.extend(measured::described());
    described.extend(monitoring::described());
    described.extend(controller::described());
    described.extend(overview::described());
    described.extend(silence::described());
    described.extend(sla::described());
    described.extend(routing::described());
    described.extend(trace::described());
    described.extend(otlp::described());
    compare("dwcp-v1.json", "DWCP Federation", &described);
}

#[test]
fn the_internal_document_is_current() {
    let mut described = peer::described();
    described.extend(state::peer::described());
    described.extend(trace::peer::described());
    described.extend(engine::described());
    described.extend(host::described());
    compare("dwcp-internal-v1.json", "DWCP Federation, between daemons", &described);
}
