//! Reaching the servers of a house that runs elsewhere: those the settings name, else those of the `weir dev` whose
//! folder it is.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Deserialize;
use weir_config::{Settings, Sources};
use weir_db::{Db, DbConfig};
use weir_events::{Bus, EventMetrics, NatsConfig};

use crate::cli;

const PATIENCE: Duration = Duration::from_secs(5);

/// Which house.
#[derive(Debug, Args)]
pub(crate) struct ReachArgs {
    /// Folder of a running `weir dev`, where neither settings nor environment name a server.
    #[arg(long, value_name = "DIR", default_value = cli::DATA, env = "WEIR_DATA", value_parser = cli::data, global = true)]
    data: std::path::PathBuf,
}

/// Of `dev.json`, what is needed here.
#[derive(Debug, Deserialize)]
struct Dev {
    nats_url: String,
    app_database_url: String,
}

impl ReachArgs {
    /// The settings with what they leave open taken from `dev.json`, if there is one.
    fn settings(&self, sources: Sources) -> Result<Settings> {
        let settings = weir_service::load(&sources)?;
        let Some(dev) = dev(&self.data)? else { return Ok(settings) };
        let mut sources = sources;
        for (key, url) in [("nats.url", dev.nats_url), ("database.url", dev.app_database_url)] {
            if settings.origin(key).is_none() {
                sources = sources.with(key, url, "dev.json");
            }
        }
        Ok(weir_service::load(&sources)?)
    }

    /// NATS. Its address may come from NATS_URL.
    ///
    /// # Errors
    /// It cannot be reached within five seconds.
    pub(crate) async fn bus(&self, sources: Sources) -> Result<Bus> {
        connect(&self.settings(sources)?).await
    }

    /// NATS, and PostgreSQL as the role that services log in as.
    ///
    /// # Errors
    /// One of them cannot be reached, or the login is fit for more than a service's.
    pub(crate) async fn both(&self, sources: Sources) -> Result<(Bus, Db)> {
        let settings = self.settings(sources)?;
        let from = settings.origin("database.url").unwrap_or_else(|| "the default".to_owned());
        let config: DbConfig = settings.section("database")?;
        let db = Db::connect_lazy(&config)?;
        db.verify().await.with_context(|| format!("database.url of {from}"))?;
        Ok((connect(&settings).await?, db))
    }
}

async fn connect(settings: &Settings) -> Result<Bus> {
    let config: NatsConfig = settings.section("nats")?;
    let bus = Bus::connect(&config, EventMetrics::default()).await?;
    let mut link = bus.link();
    let up = async { link.wait_for(|l| l.up).await.map(drop) };
    if tokio::time::timeout(PATIENCE, up).await.is_err() {
        let from = settings.origin("nats.url").unwrap_or_else(|| "the default".to_owned());
        bail!("nats.url of {from} cannot be reached within {} s", PATIENCE.as_secs());
    }
    Ok(bus)
}

fn dev(data: &Path) -> Result<Option<Dev>> {
    let path = data.join("dev.json");
    match std::fs::read(&path) {
        Ok(raw) => {
            serde_json::from_slice(&raw).map(Some).with_context(|| format!("reading {}", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
