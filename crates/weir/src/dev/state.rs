//! What one start must know of the last: `children.json` in the data folder, readable by its owner only.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use rand::distr::{Alphanumeric, SampleString as _};
use serde::{Deserialize, Serialize};
use weir_types::{Clock as _, SystemClock, TenantId};

const PASSWORD_LENGTH: usize = 32;

/// A random password of letters and digits: it needs no escaping in URLs, files or SQL.
pub(crate) fn password() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), PASSWORD_LENGTH)
}

/// A running child.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    /// Unix milliseconds.
    pub(crate) started_at_ms: i64,
}

/// Where a child listens and how to log in; 0 until it was first started.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Login {
    pub(crate) port: u16,
    /// NATS: its monitoring port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) monitor_port: Option<u16>,
    pub(crate) password: String,
}

/// The demo tenant and its key, shown at every start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Demo {
    pub(crate) tenant_id: TenantId,
    pub(crate) api_key: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) children: BTreeMap<String, Running>,
    pub(crate) postgres: Login,
    /// The folder that holds PostgreSQL's `data`, once it was made.
    pub(crate) postgres_home: Option<PathBuf>,
    pub(crate) nats: Login,
    pub(crate) redis: Login,
    /// Of the role the services log in as.
    pub(crate) app_password: String,
    pub(crate) admin_key: String,
    pub(crate) demo: Option<Demo>,
}

/// The file. Cheap to clone; every change is written whole before it counts.
#[derive(Debug, Clone)]
pub(crate) struct StateFile {
    path: Arc<Path>,
    state: Arc<Mutex<State>>,
}

impl StateFile {
    /// # Errors
    /// When the file is there but cannot be read or understood.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let state = match fs::read(path) {
            Ok(raw) => serde_json::from_slice(&raw)
                .with_context(|| format!("{} is damaged; `weir dev --reset` starts over", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        Ok(Self { path: path.into(), state: Arc::new(Mutex::new(state)) })
    }

    pub(crate) fn get(&self) -> State {
        self.state.lock().clone()
    }

    /// Changes it, and gives back what `change` gives.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T> {
        let mut state = self.state.lock();
        let mut next = state.clone();
        let given = change(&mut next);
        write_private(&self.path, &serde_json::to_vec_pretty(&next)?)?;
        *state = next;
        Ok(given)
    }

    /// Notes a child that runs.
    pub(crate) fn record(&self, name: &str, pid: u32) -> Result<()> {
        let running = Running { pid, started_at_ms: SystemClock.now_ms() };
        self.update(|state| match state.children.get(name) {
            // Found again: its start time stays.
            Some(known) if known.pid == pid => {}
            _ => drop(state.children.insert(name.to_owned(), running)),
        })
    }

    /// A secret of the state, made when it is missing.
    pub(crate) fn secret(
        &self,
        field: impl Fn(&mut State) -> &mut String,
        make: impl FnOnce() -> String,
    ) -> Result<String> {
        let mut known = self.get();
        if !field(&mut known).is_empty() {
            return Ok(std::mem::take(field(&mut known)));
        }
        let made = make();
        self.update(|state| field(state).clone_from(&made))?;
        Ok(made)
    }
}

/// Writes a file that only its owner may read, at once or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
        file.as_file().sync_data()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("children.json");
        let file = StateFile::load(&path).unwrap();
        let secret = file.secret(|s| &mut s.app_password, password).unwrap();
        file.record("nats", 7).unwrap();
        let again = StateFile::load(&path).unwrap();
        assert_eq!(again.secret(|s| &mut s.app_password, || panic!("made twice")).unwrap(), secret);
        assert_eq!(again.get().children["nats"].pid, 7);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("children.json");
        fs::write(&path, "{\"nats\":").unwrap();
        assert!(format!("{:#}", StateFile::load(&path).unwrap_err()).contains("--reset"));
    }
}
