//! The PostgreSQL of a house: made once, started or found again at each start.

use std::{fs, io, path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use sqlx::{
    Connection as _, Executor as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::process::Command;

use super::{
    Folder, Login, StateFile,
    home::Home,
    ports::{free_port, is_free},
    state::{password, write_private},
};
use crate::{
    child::{Account, Child, Ending, Marker, Probe, Signal, Spec, plain_environment},
    cli::StoreArgs,
};

pub(crate) const NAME: &str = "postgres";
/// The login that owns everything, and its database.
const OWNER: &str = "weir";
/// Another program may take a port between our look and the server's.
const ATTEMPTS: usize = 4;
/// The kernel may still hold what a killed server had.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(300);

/// Fast shutdown first: sessions are ended, the last state is written. Then without writing, then the hard way.
pub(crate) const ENDING: Ending = &[
    (Signal::SIGINT, Duration::from_secs(30)),
    (Signal::SIGQUIT, Duration::from_secs(5)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];

/// Appended to `postgresql.conf` once; whoever wants other values may edit it.
const SETTINGS: &str = "
# Weir's own settings for a development server.
max_connections = 200
shared_buffers = 64MB
max_wal_size = 512MB
jit = off
log_min_duration_statement = 1s
log_line_prefix = '%m [%p] %q%u@%d '
timezone = 'UTC'
";

/// How the server of a data folder is told from others.
pub(crate) fn marker(data: &Path) -> Marker {
    Marker::new(format!("postgres -D {}", data.display()))
}

/// Starts it, or finds it. Gives the owner's URL as well.
pub(crate) async fn up(folder: &Folder, state: &StateFile, stores: &StoreArgs) -> Result<(Child, String)> {
    let home = Home::choose(folder, state, stores.pg_bin.as_deref()).await?;
    let marker = marker(&home.data());
    if home.data().join("PG_VERSION").exists() {
        same_version(&home).await?;
        ensure!(
            !state.get().postgres.password.is_empty(),
            "{} is of a house whose children.json is gone, and with it the password; start over with --reset",
            home.data().display(),
        );
    } else {
        // A server whose data was removed under it would hold the port and come to no good.
        marker.stop_all(ENDING).await;
        create(&home, state).await?;
    }
    if state.get().postgres_home.as_ref() != Some(&home.root) {
        state.update(|state| state.postgres_home = Some(home.root.clone()))?;
    }
    let login = state.get().postgres;
    if login.port != 0 {
        let spec = spec(folder, &home, &login, &marker)?;
        if let Some(child) = Child::find(&spec).await {
            return Ok((child, database(&login).await?));
        }
    }
    for attempt in 1.. {
        let login = choose_port(state)?;
        match Child::start(&spec(folder, &home, &login, &marker)?).await {
            Ok(child) => return Ok((child, database(&login).await?)),
            Err(error) if error.in_use() && attempt < ATTEMPTS => {
                tracing::warn!(error = %error, "trying again");
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("unreachable: the last attempt returns");
}

/// The port of the last run when nobody took it meanwhile.
fn choose_port(state: &StateFile) -> Result<Login> {
    let known = state.get().postgres.port;
    let port = if known != 0 && is_free(known) { known } else { free_port()? };
    state.update(|state| {
        state.postgres.port = port;
        state.postgres.clone()
    })
}

fn options(login: &Login, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(login.port)
        .username(OWNER)
        .password(&login.password)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
}

fn spec(folder: &Folder, home: &Home, login: &Login, marker: &Marker) -> Result<Arc<Spec>> {
    let data = home.data();
    let socket = home.socket_folder(folder)?;
    let name = format!(".s.PGSQL.{}", login.port);
    let args = [
        "-D".to_owned(),
        data.display().to_string(),
        "-c".to_owned(),
        "listen_addresses=127.0.0.1".to_owned(),
        "-c".to_owned(),
        format!("port={}", login.port),
        "-c".to_owned(),
        format!("unix_socket_directories={}", socket.display()),
    ];
    Ok(Arc::new(Spec {
        name: NAME,
        program: home.bin.join("postgres"),
        arg0: None,
        args: args.into(),
        account: home.account.clone(),
        marker: marker.clone(),
        log: folder.log(NAME),
        probe: Probe::Postgres(Box::new(options(login, "postgres"))),
        ending: ENDING,
        stale: vec![data.join("postmaster.pid"), socket.join(&name), socket.join(name + ".lock")],
    }))
}

/// Makes the data folder: beside its place first, so that a launcher killed meanwhile leaves no half one.
async fn create(home: &Home, state: &StateFile) -> Result<()> {
    let password = state.secret(|state| &mut state.postgres.password, password)?;
    let (data, fresh) = (home.data(), home.root.join("data.new"));
    for leftover in [&data, &fresh] {
        match fs::remove_dir_all(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", leftover.display()));
            }
            _ => {}
        }
    }
    let secret = home.root.join("password");
    write_private(&secret, password.as_bytes())?;
    if let Some(account) = &home.account {
        account.own(&secret)?;
    }
    let mut command = Command::new(home.bin.join("initdb"));
    command.arg("-D").arg(&fresh).args([
        "-U",
        OWNER,
        "-A",
        "scram-sha-256",
        "-E",
        "UTF8",
        "--data-checksums",
    ]);
    // A locale without surprises: not the machine's, and no ICU version to outlive. macOS has no C.UTF-8.
    command.arg(if cfg!(target_os = "linux") { "--locale=C.UTF-8" } else { "--locale=C" });
    command.arg(format!("--pwfile={}", secret.display()));
    let output = run(command, home.account.as_ref()).await;
    fs::remove_file(&secret)?;
    output.context("creating the database folder with initdb")?;
    let config = fresh.join("postgresql.conf");
    let text = fs::read_to_string(&config)? + SETTINGS;
    fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    fs::rename(&fresh, &data).with_context(|| format!("creating {}", data.display()))
}

/// Runs a program to its end; its output is the error when it fails, and it does not outlive us.
async fn run(mut command: Command, account: Option<&Account>) -> Result<String> {
    plain_environment(&mut command);
    if let Some(account) = account {
        account.apply(&mut command);
    }
    command.current_dir("/").stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    let output = command.output().await?;
    let text = |raw: &[u8]| String::from_utf8_lossy(raw).trim().to_owned();
    ensure!(output.status.success(), "{}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
    Ok(text(&output.stdout))
}

/// A data folder is of one major version.
async fn same_version(home: &Home) -> Result<()> {
    let made_by = fs::read_to_string(home.data().join("PG_VERSION"))?;
    let mut command = Command::new(home.bin.join("postgres"));
    command.arg("--version");
    let text = run(command, home.account.as_ref()).await?;
    let major = text.split(' ').nth(2).and_then(|version| version.split('.').next()).unwrap_or_default();
    ensure!(
        made_by.trim() == major,
        "{} was made by PostgreSQL {}, and {} is {major}: use that one (WEIR_PG_BIN), or start over with --reset",
        home.data().display(),
        made_by.trim(),
        home.bin.display(),
    );
    Ok(())
}

/// Creates the database when it is missing, and gives its URL.
async fn database(login: &Login) -> Result<String> {
    let mut connection = PgConnection::connect_with(&options(login, "postgres")).await?;
    let known = connection.fetch_optional("SELECT 1 FROM pg_database WHERE datname = 'weir'").await?;
    if known.is_none() {
        connection.execute("CREATE DATABASE weir").await.context("creating the database")?;
    }
    connection.close().await?;
    Ok(format!("postgres://{OWNER}:{}@127.0.0.1:{}/weir", login.password, login.port))
}

/// Whether the login of `url` may create the role that the services use.
pub(crate) async fn may_create_roles(url: &str) -> Result<()> {
    let connect = tokio::time::timeout(Duration::from_secs(10), PgConnection::connect(url));
    let mut connection = connect.await.context("no answer within 10 s")??;
    let row = connection
        .fetch_one(
            "SELECT current_user::text, rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user",
        )
        .await?;
    let (name, may): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    connection.close().await?;
    ensure!(
        may,
        "the login {name} may not create roles; `weir dev` needs one that may, to create the role its services use"
    );
    Ok(())
}
