//! Starting, stopping, killing and finding again.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::house::{House, address, http, send, wait_for};

fn chat(dev: &Value, extra: &str) -> (String, String) {
    let key = dev["api_key"].as_str().unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {key}\r\ncontent-type: application/json"
    );
    let body = format!(
        r#"{{"model":"gpt-4o-mini","stream":true,"messages":[{{"role":"user","content":"Say hello"}}]{extra}}}"#
    );
    (head, body)
}

/// Asks the database something that only works when it is up and the login right.
fn database_answers(dev: &Value) -> bool {
    let url = dev["database_url"].as_str().unwrap().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Ok(mut connection) = PgConnection::connect(&url).await else { return false };
        sqlx::query("SELECT count(*) FROM weir.migrations").execute(&mut connection).await.is_ok()
    })
}

#[test]
fn it_becomes_ready_answers_and_ctrl_c_leaves_nothing() {
    let mut house = House::new();
    let dev = house.start(&[]);
    let path = house.folder().join("dev.json");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for port in house.port..house.port + 8 {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert_eq!(http(here, "GET /ready HTTP/1.1", "").0, 200, "port {port}");
    }
    assert!(database_answers(&dev));
    let (head, body) = chat(&dev, "");
    let (status, answer) = http(address(dev["gateway"].as_str().unwrap()), &head, &body);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("data: [DONE]"), "{answer}");
    let said = wait_for("the message", || Some(house.output()).filter(|text| text.contains("Ctrl-C stops")));
    assert!(said.contains("curl -N") && said.contains(dev["api_key"].as_str().unwrap()), "{said}");
    let status = house.dev(&["status"]).output().unwrap();
    assert!(status.status.success(), "{status:?}");
    assert_eq!(house.end(Signal::SIGINT).code(), Some(0));
    house.assert_quiet();
    assert_eq!(house.dev(&["status"]).output().unwrap().status.code(), Some(1));
}

#[test]
fn a_killed_launchers_children_are_found_again() {
    let mut house = House::new();
    let before = house.start(&[]);
    let children = ["postgres", "nats"].map(|name| house.child(name).unwrap());
    house.end(Signal::SIGKILL);
    assert!(!house.processes().is_empty(), "the children should have outlived their launcher");
    let after = house.start(&[]);
    assert_eq!(["postgres", "nats"].map(|name| house.child(name).unwrap()), children);
    for key in ["api_key", "admin_key", "tenant_id", "database_url", "nats_url"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert!(database_answers(&after));
    assert_eq!(house.end(Signal::SIGTERM).code(), Some(0));
    house.assert_quiet();
}

#[test]
fn half_dead_children_are_replaced() {
    let mut house = House::new();
    house.start(&[]);
    house.end(Signal::SIGKILL);
    let (postgres, nats) = (house.child("postgres").unwrap(), house.child("nats").unwrap());
    send(postgres, Signal::SIGKILL);
    // Alive, but it does not answer.
    send(nats, Signal::SIGSTOP);
    // By now that process id belongs to somebody else.
    let pid_file = find_data(&house).join("postmaster.pid");
    wait_for("PostgreSQL's end", || {
        (!house.processes().iter().any(|p| p.contains("postgres -D"))).then_some(())
    });
    let stale = fs::read_to_string(&pid_file).unwrap().replacen(
        &postgres.to_string(),
        &std::process::id().to_string(),
        1,
    );
    fs::write(&pid_file, stale).unwrap();
    let dev = house.start(&[]);
    assert!(database_answers(&dev));
    assert_ne!(house.child("postgres").unwrap(), postgres);
    assert_ne!(house.child("nats").unwrap(), nats);
    assert_eq!(house.end(Signal::SIGINT).code(), Some(0));
    house.assert_quiet();
}

fn find_data(house: &House) -> std::path::PathBuf {
    let state: Value =
        serde_json::from_slice(&fs::read(house.folder().join("children.json")).unwrap()).unwrap();
    std::path::Path::new(state["postgres_home"].as_str().unwrap()).join("data")
}

#[test]
fn a_child_that_crashes_is_restarted() {
    let mut house = House::new();
    let dev = house.start(&[]);
    for name in ["nats", "postgres"] {
        let before = house.child(name).unwrap();
        send(before, Signal::SIGKILL);
        wait_for("a new child", || house.child(name).filter(|pid| *pid != before));
    }
    wait_for("the database", || database_answers(&dev).then_some(()));
    assert_eq!(house.end(Signal::SIGINT).code(), Some(0));
    house.assert_quiet();
}

#[test]
fn ctrl_c_while_starting_leaves_nothing() {
    let mut house = House::new();
    house.launch(&[]);
    wait_for("a child", || {
        house.processes().iter().any(|p| p.contains("initdb") || p.contains("nats")).then_some(())
    });
    assert_eq!(house.end(Signal::SIGINT).code(), Some(0));
    house.assert_quiet();
    // What was half made does not disturb the next start.
    let dev = house.start(&[]);
    assert!(database_answers(&dev));
}

#[test]
fn a_second_signal_does_not_wait_for_requests_in_flight() {
    let mut house = House::new();
    let dev = house.start(&[]);
    // One token, and then none for a long time.
    let (head, body) = chat(&dev, r#","x_sim":{"first_token_ms":0,"token_ms":600000,"tokens":9}"#);
    let gateway = address(dev["gateway"].as_str().unwrap());
    let mut stream = TcpStream::connect(gateway).unwrap();
    write!(stream, "{head}\r\nhost: {gateway}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = Vec::new();
    wait_for("the first token", || {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).unwrap();
        answer.extend_from_slice(&part[..read]);
        String::from_utf8_lossy(&answer).contains("data: ").then_some(())
    });
    house.signal(Signal::SIGINT);
    wait_for("the first signal to be noticed", || house.output().contains("a second signal").then_some(()));
    assert_eq!(house.end(Signal::SIGINT).code(), Some(130));
    house.assert_quiet();
}

#[test]
fn a_taken_port_is_named_and_nothing_is_started() {
    let mut house = House::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, house.port + 4)).unwrap();
    house.launch(&[]);
    assert_eq!(house.wait().code(), Some(1));
    let said = house.output();
    assert!(said.contains(&format!("analytics: 127.0.0.1:{} is in use", house.port + 4)), "{said}");
    if cfg!(target_os = "linux") {
        assert!(said.contains(&format!("pid {}", std::process::id())), "{said}");
    }
    house.assert_quiet();
    assert!(!house.folder().join("postgres").exists());
    drop(taken);
}

#[test]
fn data_is_kept_until_a_reset() {
    let mut house = House::new();
    let first = house.start(&[]);
    fs::write(house.folder().join("mine.txt"), "mine").unwrap();
    house.end(Signal::SIGTERM);
    let second = house.start(&[]);
    assert_eq!((&first["tenant_id"], &first["api_key"]), (&second["tenant_id"], &second["api_key"]));
    // Children that a killed one left are stopped by a reset as well.
    house.end(Signal::SIGKILL);
    let third = house.start(&["--reset"]);
    for key in ["tenant_id", "api_key", "admin_key"] {
        assert_ne!(first[key], third[key], "{key}");
    }
    assert!(database_answers(&third));
    assert_eq!(fs::read_to_string(house.folder().join("mine.txt")).unwrap(), "mine");
    // Under `nohup`, tests and what they start ignore it.
    let hangup = if weir_runtime::hangup_is_ignored() { Signal::SIGTERM } else { Signal::SIGHUP };
    assert_eq!(house.end(hangup).code(), Some(0));
    house.assert_quiet();
}

#[test]
fn stop_clears_up_after_a_killed_launcher() {
    let mut house = House::new();
    house.start(&[]);
    house.end(Signal::SIGKILL);
    assert!(house.folder().join("dev.json").exists());
    assert!(house.dev(&["stop"]).stdout(std::process::Stdio::null()).status().unwrap().success());
    house.assert_quiet();
}

#[test]
fn what_no_house_made_is_not_touched() {
    let mut house = House::new();
    let thesis = house.folder().join("logs/thesis.txt");
    fs::create_dir_all(thesis.parent().unwrap()).unwrap();
    fs::write(&thesis, "mine").unwrap();
    house.launch(&["--reset"]);
    assert_eq!(house.wait().code(), Some(1));
    assert!(house.output().contains("has logs but no children.json"), "{}", house.output());
    assert_eq!(house.dev(&["reset"]).output().unwrap().status.code(), Some(1));
    assert_eq!(fs::read_to_string(&thesis).unwrap(), "mine");
    fs::remove_dir_all(thesis.parent().unwrap()).unwrap();
}

#[test]
fn a_database_without_its_password_is_refused_at_once() {
    let mut house = House::new();
    house.start(&[]);
    assert_eq!(house.end(Signal::SIGINT).code(), Some(0));
    fs::write(house.folder().join("children.json"), "{}").unwrap();
    house.launch(&[]);
    assert_eq!(house.wait().code(), Some(1));
    assert!(house.output().contains("start over with --reset"), "{}", house.output());
    house.assert_quiet();
    house.start(&["--reset"]);
}

#[test]
fn two_houses_stand_side_by_side_and_two_launchers_do_not_share_one() {
    let (mut one, mut other) = (House::new(), House::new());
    one.launch(&[]);
    other.launch(&[]);
    let (first, second) = (one.ready(), other.ready());
    for key in ["gateway", "database_url", "nats_url", "simulator", "tenant_id"] {
        assert_ne!(first[key], second[key], "{key}");
    }
    let refused = one.dev(&["--port", "9"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("pid {}", one.launcher_pid())), "{said}");
    // `stop` ends the one it is asked to.
    assert!(one.dev(&["stop"]).status().unwrap().success());
    assert_eq!(one.wait().code(), Some(0));
    one.assert_quiet();
    assert!(database_answers(&second));
}

#[test]
fn servers_of_ones_own_are_used_and_left_alone() {
    let mut owner = House::new();
    let servers = owner.start(&[]);
    let (database, nats) = (servers["database_url"].as_str().unwrap(), servers["nats_url"].as_str().unwrap());
    let mut guest = House::new();
    guest.launch_with(&[], &[("DATABASE_URL", database), ("NATS_URL", nats), ("REDIS_URL", "")]);
    let dev = guest.ready();
    assert_eq!((&dev["database_url"], &dev["nats_url"]), (&servers["database_url"], &servers["nats_url"]));
    assert_eq!((guest.child("postgres"), guest.child("nats")), (None, None));
    assert_ne!(dev["tenant_id"], servers["tenant_id"]);
    assert_eq!(guest.end(Signal::SIGINT).code(), Some(0));
    guest.assert_quiet();
    assert!(database_answers(&servers));
    // A login that may not do what is needed is refused with the reason.
    let other = database.replacen("weir:", "nobody:", 1);
    guest.launch_with(&[], &[("DATABASE_URL", &other)]);
    assert_eq!(guest.wait().code(), Some(1));
    assert!(guest.output().contains("DATABASE_URL"), "{}", guest.output());
    guest.assert_quiet();
}
