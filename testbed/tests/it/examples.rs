//! The script of the three requests (C11-C13), run as a user would: `dwcpd local up` on each
//! topology, the script, `dwcpd local down`.

use std::process::Command;

use dwcp_testbed::{guest_image, program, workspace};

use crate::local::{Local, succeeded};

fn run_script(local: &Local) -> String {
    let programs = program("dwcp-cli").parent().unwrap().to_owned();
    let output = Command::new(workspace().join("examples/three-requests.sh"))
        .env("DWCP_STATE", local.state())
        .env("DWCP_BIN", programs)
        .output();
    succeeded(&output.unwrap())
}

#[test]
fn the_three_requests_are_placed_run_and_explained_where_there_is_an_edge() {
    let local = Local::of("t1-edge", guest_image());
    succeeded(&local.command("up").arg("--detach").output().unwrap());
    let said = run_script(&local);
    for part in ["vm-web-001", "vm-db-001", "vm-iot-001", "eu-west-1", "edge-tokyo"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let list = said.split("=== what runs now").nth(1).unwrap();
    let list = list.split("=== deleting").next().unwrap();
    assert_eq!(list.matches("running").count(), 3, "{list}");
}

#[test]
fn without_an_edge_the_third_request_is_refused_and_explained() {
    let local = Local::of("t1", None);
    succeeded(&local.command("up").arg("--detach").output().unwrap());
    let said = run_script(&local);
    let third = said.split("=== C13").nth(1).unwrap();
    assert!(third.contains("refused"), "{third}");
    for region in ["us-east-1", "eu-west-1", "ap-south-1", "sa-east-1", "au-southeast-1"]
    {
        assert!(said.contains(region), "{region} is named: {said}");
    }
}
