//! The servers under the services: children of ours, or those the environment names.

use std::str::FromStr as _;

use anyhow::{Context as _, Result};
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use weir_db::AppRole;
use weir_runtime::Tasks;

use super::{Folder, StateFile, leftovers, nats, postgres, redis, state::password};
use crate::{
    child::{Child, supervise},
    cli::StoreArgs,
};

/// The role the services use in a database of our own. Roles belong to a whole server: in somebody else's, each
/// house has one of its own, so that two houses there do not change each other's password.
const APP_ROLE: &str = "weir_app";

/// Where they are; every URL carries its password.
#[derive(Debug)]
pub(crate) struct Stores {
    /// The migrator's: it sees every tenant.
    pub(crate) database_url: String,
    /// The role's that the services use.
    pub(crate) app_url: String,
    pub(crate) nats_url: String,
    /// Of a NATS of our own.
    pub(crate) nats_monitor: Option<String>,
    /// `None`: memory.
    pub(crate) redis_url: Option<String>,
}

/// Starts or finds what the environment does not name, all at once, and brings the database's schema up to date.
/// Children are looked after in `tasks`.
pub(crate) async fn up(
    folder: &Folder,
    state: &StateFile,
    args: &StoreArgs,
    tasks: &Tasks,
) -> Result<Stores> {
    let watch = |name: &str, child: Child| -> Result<()> {
        state.record(name, child.pid)?;
        supervise(child, state.clone(), tasks);
        Ok(())
    };
    let database = async {
        let Some(url) = &args.database_url else {
            let (child, url) =
                Box::pin(postgres::up(folder, state, args)).await.context("starting PostgreSQL")?;
            watch(postgres::NAME, child)?;
            let app_url = migrate(state, &url, APP_ROLE.to_owned()).await?;
            return Ok((url, app_url));
        };
        leftovers::stop_unneeded(folder, postgres::NAME).await;
        postgres::may_create_roles(url).await.context("DATABASE_URL")?;
        let app_url = migrate(state, url, format!("{APP_ROLE}_{}", folder.hash())).await?;
        anyhow::Ok((url.clone(), app_url))
    };
    let nats = async {
        if let Some(url) = &args.nats_url {
            leftovers::stop_unneeded(folder, nats::NAME).await;
            return Ok((url.clone(), None));
        }
        let (child, url) = Box::pin(nats::up(folder, state, args)).await.context("starting NATS")?;
        watch(nats::NAME, child)?;
        anyhow::Ok((url, nats::monitor_url(state)))
    };
    let redis = async {
        if let Some(url) = &args.redis_url {
            leftovers::stop_unneeded(folder, redis::NAME).await;
            return Ok(Some(url.clone()));
        }
        let Some((child, url)) = Box::pin(redis::up(folder, state, args)).await.context("starting Redis")?
        else {
            return Ok(None);
        };
        watch(redis::NAME, child)?;
        anyhow::Ok(Some(url))
    };
    let ((database_url, app_url), (nats_url, nats_monitor), redis_url) =
        tokio::try_join!(database, nats, redis)?;
    Ok(Stores { database_url, app_url, nats_url, nats_monitor, redis_url })
}

/// Gives the URL the services use.
async fn migrate(state: &StateFile, admin_url: &str, name: String) -> Result<String> {
    let password = state.secret(|state| &mut state.app_password, password)?;
    let app_url = PgConnectOptions::from_str(admin_url)?.username(&name).password(&password).to_url_lossy();
    weir_db::migrate(admin_url, &AppRole::new(name, password)).await.context("migrating the database")?;
    Ok(app_url.to_string())
}
