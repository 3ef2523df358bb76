//! The NATS server of a house, with JetStream on disk.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, bail};

use super::{
    Folder, Login, StateFile,
    ports::{free_port, is_free},
    programs,
    state::{password, write_private},
};
use crate::{
    child::{Child, Ending, Marker, Nats, Probe, Signal, Spec},
    cli::StoreArgs,
};

pub(crate) const NAME: &str = "nats";
const USER: &str = "weir";
const ATTEMPTS: usize = 4;

pub(crate) const ENDING: Ending =
    &[(Signal::SIGTERM, Duration::from_secs(15)), (Signal::SIGKILL, Duration::from_secs(5))];

/// How the server of a folder is told from others.
pub(crate) fn marker(folder: &Folder) -> Marker {
    Marker::new(format!("--config {}", config_path(folder)))
}

fn config_path(folder: &Folder) -> String {
    folder.join("nats/nats.conf").display().to_string()
}

/// Starts it, or finds it. Gives its URL as well.
pub(crate) async fn up(folder: &Folder, state: &StateFile, stores: &StoreArgs) -> Result<(Child, String)> {
    let program = programs::nats(folder, stores.nats_bin.as_deref())?;
    folder.make("nats/jetstream")?;
    let login = state.get().nats;
    if let Some(monitor) = login.monitor_port {
        let spec = spec(folder, &program, &login, monitor);
        if let Some(child) = Child::find(&spec).await {
            return Ok((child, url(&login)));
        }
    } else {
        marker(folder).stop_all(ENDING).await;
    }
    for attempt in 1.. {
        let (login, monitor) = choose_ports(state)?;
        write_private(Path::new(&config_path(folder)), config(folder, &login, monitor).as_bytes())?;
        match Child::start(&spec(folder, &program, &login, monitor)).await {
            Ok(child) => return Ok((child, url(&login))),
            Err(error) if error.in_use() && attempt < ATTEMPTS => {
                tracing::warn!(error = %error, "trying again");
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("unreachable: the last attempt returns");
}

fn choose_ports(state: &StateFile) -> Result<(Login, u16)> {
    let mut login = state.get().nats;
    let keep = |port: u16| if port != 0 && is_free(port) { Ok(port) } else { free_port() };
    login.port = keep(login.port)?;
    let monitor = keep(login.monitor_port.unwrap_or_default())?;
    login.monitor_port = Some(monitor);
    if login.password.is_empty() {
        login.password = password();
    }
    state.update(|state| state.nats = login.clone())?;
    Ok((login, monitor))
}

/// Where it tells about itself.
pub(crate) fn monitor_url(state: &StateFile) -> Option<String> {
    state.get().nats.monitor_port.map(|port| format!("http://127.0.0.1:{port}"))
}

fn url(login: &Login) -> String {
    format!("nats://{USER}:{}@127.0.0.1:{}", login.password, login.port)
}

fn spec(folder: &Folder, program: &Path, login: &Login, monitor: u16) -> Arc<Spec> {
    Arc::new(Spec {
        name: NAME,
        program: program.to_owned(),
        arg0: None,
        args: vec!["--config".to_owned(), config_path(folder)],
        account: None,
        marker: marker(folder),
        log: folder.log(NAME),
        probe: Probe::Nats(Nats {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, login.port)),
            monitor: SocketAddr::from((Ipv4Addr::LOCALHOST, monitor)),
            user: USER.to_owned(),
            password: login.password.clone(),
        }),
        ending: ENDING,
        stale: Vec::new(),
    })
}

/// The same settings as `deploy/nats/nats.conf` ships, for one server on loopback.
fn config(folder: &Folder, login: &Login, monitor: u16) -> String {
    let quoted = |path: &str| format!("\"{}\"", path.replace('\\', "\\\\"));
    let file = |name: &str| quoted(&folder.join(name).display().to_string());
    format!(
        r#"# Written by `weir dev` at each start.
server_name: weir_dev
listen: 127.0.0.1:{port}
http: 127.0.0.1:{monitor}
pid_file: {pid_file}
max_payload: 4MB
max_pending: 64MB
write_deadline: "10s"
authorization {{ user: {USER}, password: "{password}" }}
jetstream {{
  store_dir: {store}
  max_memory_store: 64MB
  max_file_store: 8GB
  # An acknowledged event is on the disk.
  sync_interval: always
}}
"#,
        port = login.port,
        password = login.password,
        pid_file = file("nats/nats.pid"),
        store = file("nats/jetstream"),
    )
}
