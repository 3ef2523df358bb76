//! A PgBouncer in transaction mode in front of a test's database, where one is installed.

use std::{fs, os::unix::fs::chown};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use crate::{
    Database, find, ports,
    postgres::run_as,
    process::{Guarded, tail, temp_dir, wait_for},
};

const ATTEMPTS: usize = 5;
/// Few, so that clients share server connections.
const SERVER_CONNECTIONS: usize = 2;

/// Ends when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    _server: Guarded,
    url: String,
    _dir: tempfile::TempDir,
}

impl PgBouncer {
    /// One in front of `database`; `None`, said aloud, where no `pgbouncer` is installed (`WEIR_PGBOUNCER_BIN`).
    ///
    /// # Errors
    /// It did not start.
    pub async fn start(database: &Database) -> Result<Option<Self>> {
        let Some(program) = find::pgbouncer() else {
            eprintln!("SKIPPED: no pgbouncer found (install one or set WEIR_PGBOUNCER_BIN)");
            return Ok(None);
        };
        let (login, rest) = database.app_url.split_once('@').context("a test's URL names its user")?;
        let (user, password) =
            login.trim_start_matches("postgres://").split_once(':').context("and its password")?;
        let (address, name) = rest.split_once('/').context("and its database")?;
        let (host, port) = address.split_once(':').context("and its port")?;
        let (dir, root) = temp_dir("weir-pgbouncer-")?;
        let owner = run_as()?;
        if let Some(owner) = owner {
            chown(&root, Some(owner.uid), Some(owner.gid))?;
        }
        let (config, log) = (root.join("pgbouncer.ini"), root.join("log"));
        let mut last = None;
        // Another process may take the port first.
        for _ in 0..ATTEMPTS {
            let listen = ports::free(1)?;
            let text = format!(
                "[databases]\n{name} = host={host} port={port} user={user} password={password}\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listen}\nunix_socket_dir =\n\
                 auth_type = any\npool_mode = transaction\ndefault_pool_size = {SERVER_CONNECTIONS}\n"
            );
            fs::write(&config, text)?;
            if let Some(owner) = owner {
                chown(&config, Some(owner.uid), Some(owner.gid))?;
            }
            let args = [config.to_string_lossy().into_owned()];
            let mut server = Guarded::spawn(&program, &args, (&root, &log), Signal::SIGKILL, owner)?;
            let ready = wait_for("PgBouncer", async || {
                if server.exited() {
                    bail!("pgbouncer ended");
                }
                Ok(TcpStream::connect(("127.0.0.1", listen)).await.ok().map(|_| ()))
            });
            match ready.await.with_context(|| tail(&log)) {
                Ok(()) => {
                    let url = format!("postgres://{user}:{password}@127.0.0.1:{listen}/{name}");
                    return Ok(Some(Self { _server: server, url, _dir: dir }));
                }
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(None), Err)
    }

    /// Like [`Database::app_url`], through the pooler.
    #[must_use]
    pub fn app_url(&self) -> &str {
        &self.url
    }
}
