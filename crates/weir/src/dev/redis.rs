//! The Redis of a house, when a `redis-server` is there: shared short-lived state, nothing that must survive.

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
    child::{Child, Ending, Marker, Probe, Signal, Spec},
    cli::StoreArgs,
};

pub(crate) const NAME: &str = "redis";
const ATTEMPTS: usize = 4;

pub(crate) const ENDING: Ending =
    &[(Signal::SIGTERM, Duration::from_secs(10)), (Signal::SIGKILL, Duration::from_secs(5))];

/// Redis rewrites its command line, but keeps the name it was called by.
pub(crate) fn marker(folder: &Folder) -> Marker {
    Marker::new(called(folder))
}

fn called(folder: &Folder) -> String {
    folder.join("redis/redis-server").display().to_string()
}

/// Starts it, or finds it, and gives its URL as well; `None` when there is no program.
pub(crate) async fn up(
    folder: &Folder,
    state: &StateFile,
    stores: &StoreArgs,
) -> Result<Option<(Child, String)>> {
    let Some(program) = programs::redis(folder, stores.redis_bin.as_deref())? else {
        marker(folder).stop_all(ENDING).await;
        return Ok(None);
    };
    folder.make("redis")?;
    let login = state.get().redis;
    if login.port == 0 {
        marker(folder).stop_all(ENDING).await;
    } else if let Some(child) = Child::find(&spec(folder, &program, &login)).await {
        return Ok(Some((child, url(&login))));
    }
    for attempt in 1.. {
        let login = choose_port(state)?;
        write_private(&folder.join("redis/redis.conf"), config(folder, &login).as_bytes())?;
        match Child::start(&spec(folder, &program, &login)).await {
            Ok(child) => return Ok(Some((child, url(&login)))),
            Err(error) if error.in_use() && attempt < ATTEMPTS => {
                tracing::warn!(error = %error, "trying again");
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("unreachable: the last attempt returns");
}

fn choose_port(state: &StateFile) -> Result<Login> {
    let mut login = state.get().redis;
    if login.port == 0 || !is_free(login.port) {
        login.port = free_port()?;
    }
    if login.password.is_empty() {
        login.password = password();
    }
    state.update(|state| state.redis = login.clone())?;
    Ok(login)
}

fn url(login: &Login) -> String {
    format!("redis://:{}@127.0.0.1:{}/0", login.password, login.port)
}

fn spec(folder: &Folder, program: &Path, login: &Login) -> Arc<Spec> {
    Arc::new(Spec {
        name: NAME,
        program: program.to_owned(),
        arg0: Some(called(folder)),
        args: vec![folder.join("redis/redis.conf").display().to_string()],
        account: None,
        marker: marker(folder),
        log: folder.log(NAME),
        probe: Probe::Redis {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, login.port)),
            password: login.password.clone(),
        },
        ending: ENDING,
        stale: Vec::new(),
    })
}

fn config(folder: &Folder, login: &Login) -> String {
    let path = |name: &str| format!("\"{}\"", folder.join(name).display().to_string().replace('\\', "\\\\"));
    format!(
        r#"# Written by `weir dev` at each start.
bind 127.0.0.1
port {port}
requirepass {password}
daemonize no
pidfile {pid_file}
dir {dir}
maxmemory 64mb
maxmemory-policy volatile-lru
save ""
appendonly no
"#,
        port = login.port,
        password = login.password,
        pid_file = path("redis/redis.pid"),
        dir = path("redis"),
    )
}
