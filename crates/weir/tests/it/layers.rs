//! The order of the crates: arrows point down, services never depend on each other.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

/// What each crate belongs to, from the bottom up. A new crate must be given its place here.
const LAYERS: [&[&str]; 5] = [
    &["types", "proto"],
    &["error", "config", "telemetry", "runtime", "rpc", "db", "events", "kv", "testkit"],
    &["service", "llm", "access", "projection", "outbox", "rest", "embedding"],
    &[
        "gateway",
        "control",
        "router",
        "orchestrator",
        "realtime",
        "ingestion",
        "analytics",
        "billing",
        "simulator",
        "console",
    ],
    &["weir", "e2e", "bench"],
];
const SERVICES: usize = 3;

fn layer(name: &str) -> Option<usize> {
    let name = name.strip_prefix("weir-").unwrap_or(name);
    LAYERS.iter().position(|layer| layer.contains(&name))
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Dependencies among our crates that the layers forbid.
fn forbidden(package: &str, dependency: &str, dev: bool) -> Option<String> {
    let (Some(from), Some(to)) = (layer(package), layer(dependency)) else {
        return Some(format!("{package} → {dependency}: give both a layer"));
    };
    if dev {
        // Tests may use the test kit and the simulator, and still no other service.
        let allowed = to <= from && (to != SERVICES || from > SERVICES);
        let helper = ["weir-testkit", "weir-simulator"].contains(&dependency);
        return (!allowed && !helper).then(|| format!("{package} → {dependency} (tests)"));
    }
    if dependency == "weir-testkit" {
        // The tests of the whole house are nothing but tests; benches stand on the same servers.
        return (!["weir-e2e", "weir-bench"].contains(&package))
            .then(|| format!("{package} → {dependency}: for tests only"));
    }
    let sideways = to == from && (from == SERVICES || from == 0);
    (to > from || sideways).then(|| format!("{package} → {dependency}"))
}

#[test]
fn dependencies_point_down_and_services_stand_apart() {
    let mut wrong = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency_name = dependency["name"].as_str().unwrap();
            if dependency_name.starts_with("weir") && dependency["path"].is_string() {
                wrong.extend(forbidden(name, dependency_name, dependency["kind"] == "dev"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_rule_sees_what_it_should() {
    for (package, dependency, dev) in [
        ("weir-gateway", "weir-router", false),
        ("weir-gateway", "weir-router", true),
        ("weir-types", "weir-proto", false),
        ("weir-db", "weir-llm", false),
        ("weir-db", "weir-testkit", false),
        ("weir-nobody", "weir-types", false),
    ] {
        assert!(forbidden(package, dependency, dev).is_some(), "{package} → {dependency}");
    }
    for (package, dependency, dev) in [
        ("weir-gateway", "weir-access", false),
        ("weir-runtime", "weir-telemetry", false),
        ("weir-orchestrator", "weir-simulator", true),
        ("weir", "weir-gateway", false),
    ] {
        assert_eq!(forbidden(package, dependency, dev), None);
    }
}

#[test]
fn folders_are_named_like_their_packages_without_the_prefix() {
    let named: BTreeMap<String, String> = packages()
        .iter()
        .map(|package| {
            let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
            let folder = folder.file_name().unwrap().to_string_lossy().into_owned();
            (package["name"].as_str().unwrap().to_owned(), folder)
        })
        .collect();
    for (name, folder) in &named {
        assert_eq!(name.strip_prefix("weir-").unwrap_or(name), folder);
    }
}
