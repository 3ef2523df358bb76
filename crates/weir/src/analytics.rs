//! `weir analytics`: what analytics can be told to do.

use std::{io::Write as _, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use weir_analytics::{RebuildError, RebuildRange, rebuild};
use weir_config::Sources;
use weir_types::SystemClock;

use crate::{
    reach::ReachArgs,
    times::{hour, utc},
};

#[derive(Debug, Args)]
pub struct AnalyticsArgs {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    reach: ReachArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the hourly KPIs again from the events of stream USAGE, while new ones are counted.
    ///
    /// Every hour becomes what counting its events gives, in one transaction; rows that are right stay. Doing it
    /// again changes nothing, also after it was cut short.
    ///
    /// USAGE keeps events for 30 days, or fewer once it is larger than nats.usage_bytes (1 GiB unless set, about a
    /// million requests): then the oldest that every consumer has had make room. Hours of which an event is gone are
    /// refused, and the first whole one is named.
    ///
    /// It logs in as services do (database.url, DATABASE_URL), with a role that owns nothing and is held to one tenant
    /// at a time. The migrator's login, which sees all of them at once, is refused.
    Rebuild {
        /// The first hour, UTC, as 2026-11-21T14 [default: the first there is]
        #[arg(long, value_name = "HOUR", value_parser = hour)]
        from: Option<i64>,

        /// The hour to end before [default: the next]
        #[arg(long, value_name = "HOUR", value_parser = hour)]
        to: Option<i64>,
    },
}

/// Exit codes: 0 done, 1 refused or failed, 2 wrong arguments.
pub(crate) async fn run(args: AnalyticsArgs, sources: Sources) -> Result<ExitCode> {
    let Action::Rebuild { from, to } = args.action;
    let (bus, db) = args.reach.both(sources).await?;
    let done = match rebuild(&db, &bus, &SystemClock, RebuildRange { from_ms: from, to_ms: to }).await {
        Ok(done) => done,
        Err(RebuildError::NotHeld { first_whole_hour_ms }) => {
            bail!(
                "events of these hours are no longer all there: the first whole hour is {}",
                utc(first_whole_hour_ms)
            )
        }
        Err(error) => return Err(error.into()),
    };
    let text = format!(
        "{} to {}: {} events, {} rows, {} hours of a tenant mended\n",
        utc(done.from_ms),
        utc(done.to_ms),
        done.events,
        done.rows,
        done.mended
    );
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
