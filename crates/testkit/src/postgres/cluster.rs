//! One data folder and how to run a server on it.
//!
//! PostgreSQL refuses to run as root: then it runs as `postgres` or `nobody`, and its binaries are copied
//! where that user may enter when they are not.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::{
        fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::Signal,
    unistd::{Uid, User},
};
use tokio::task::spawn_blocking;

use crate::{
    find, ports,
    process::{Guarded, RunAs},
};

const ADMIN: &str = "weir_admin";

#[derive(Debug, Clone)]
pub(super) struct Cluster {
    bin: PathBuf,
    root: PathBuf,
    user: Option<RunAs>,
    port: u16,
    password: String,
}

impl Cluster {
    /// Makes a data folder below `root`, an empty folder of ours.
    pub(super) async fn create(root: &Path) -> Result<Self> {
        let root = root.to_owned();
        spawn_blocking(move || Self::initdb(root)).await?
    }

    fn initdb(root: PathBuf) -> Result<Self> {
        let user = run_as()?;
        let mut bin = find::postgres_bin()?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o711))?;
        if user.is_some() && !enterable(&bin) {
            bin = copy_install(&bin, &root)?;
        }
        let password = uuid::Uuid::new_v4().simple().to_string();
        let secret = root.join("password");
        let mut file = fs::File::options().create_new(true).write(true).mode(0o600).open(&secret)?;
        file.write_all(password.as_bytes())?;
        let work = root.join("pg");
        fs::create_dir(&work)?;
        if let Some(RunAs { uid, gid }) = user {
            for path in [&root, &secret, &work] {
                chown(path, Some(uid), Some(gid))?;
            }
        }
        let mut command = Command::new(bin.join("initdb"));
        // `password` and not SCRAM: on the loopback, and thousands of hash rounds per test connection are slow.
        command.args(["-U", ADMIN, "-A", "password", "-E", "UTF8", "--no-locale", "--no-sync", "--pwfile"]);
        command.arg(&secret).arg("-D").arg(work.join("data")).current_dir("/").stdin(Stdio::null());
        if let Some(RunAs { uid, gid }) = user {
            command.gid(gid).uid(uid);
        }
        let output = command.output().context("starting initdb")?;
        anyhow::ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        fs::remove_file(&secret)?;
        Ok(Self { bin, root, user, port: ports::free(1)?, password })
    }

    /// For the next start.
    pub(super) fn move_to_another_port(&mut self) -> Result<()> {
        self.port = ports::free(1)?;
        Ok(())
    }

    /// Without a database name.
    pub(super) fn server_url(&self) -> String {
        format!("postgres://{ADMIN}:{}@127.0.0.1:{}", self.password, self.port)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("pg/data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("pg/log")
    }

    fn args(&self) -> Vec<String> {
        let settings = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".into(),
            "unix_socket_directories=".into(),
            "max_connections=300".into(),
            // Test data may die with the machine.
            "fsync=off".into(),
            "synchronous_commit=off".into(),
            "full_page_writes=off".into(),
            "autovacuum=off".into(),
            "shared_buffers=64MB".into(),
            "max_wal_size=4GB".into(),
        ];
        let data = self.data().to_string_lossy().into_owned();
        ["-D".to_owned(), data]
            .into_iter()
            .chain(settings.into_iter().flat_map(|s| ["-c".to_owned(), s]))
            .collect()
    }

    /// A server that ends with this process.
    pub(super) fn spawn_guarded(&self) -> Result<Guarded> {
        Guarded::spawn(
            &self.bin.join("postgres"),
            &self.args(),
            (&self.root, &self.log()),
            Signal::SIGINT,
            self.user,
        )
    }

    /// A server that outlives this process.
    pub(super) fn spawn_detached(&self) -> Result<()> {
        let mut command = Command::new("/bin/sh");
        // Two forks: the server is nobody's child here, so none of us has to reap it.
        command.args(["-c", r#"log=$1; shift; "$@" </dev/null >>"$log" 2>&1 &"#, "start"]);
        command.arg(self.log()).arg(self.bin.join("postgres")).args(self.args());
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        if let Some(RunAs { uid, gid }) = self.user {
            command.gid(gid).uid(uid);
        }
        anyhow::ensure!(command.status()?.success(), "starting PostgreSQL");
        Ok(())
    }
}

/// Whom to become; `None` to stay who we are.
pub(crate) fn run_as() -> Result<Option<RunAs>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(RunAs { uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
        }
    }
    anyhow::bail!("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
}

/// Whether anybody may enter this folder.
fn enterable(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    path.ancestors().all(|dir| fs::metadata(dir).is_ok_and(|m| m.permissions().mode() & 0o001 != 0))
}

/// Copies a whole installation (the folder above `bin`): PostgreSQL finds its files relative to the binary.
fn copy_install(bin: &Path, root: &Path) -> Result<PathBuf> {
    let install = bin.parent().context("bin has a parent")?;
    let copy = root.join("install");
    let arguments = [OsStr::new("-R"), install.as_os_str(), copy.as_os_str()];
    anyhow::ensure!(Command::new("cp").args(arguments).status()?.success(), "copying {}", install.display());
    anyhow::ensure!(Command::new("chmod").args(["-R", "a+rX"]).arg(&copy).status()?.success(), "chmod");
    Ok(copy.join("bin"))
}
