//! The command line of a service's own binary, and what `weir serve` shares with it.

use std::{ffi::OsString, io::Write as _, net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, Command, FromArgMatches as _};
use weir_config::Sources;

use crate::{Service, serve};

/// How long blocking work may hold up the end of the process.
const RUNTIME_GRACE: Duration = Duration::from_secs(2);

/// Where services listen.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Address to listen on [default: listen.host, else 0.0.0.0]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<IpAddr>,

    /// Port to listen on, where one service runs [default: listen.port, else the service's own]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
}

impl ServeArgs {
    pub(crate) fn add_to(&self, mut sources: Sources) -> Sources {
        if let Some(host) = self.host {
            sources = sources.with("listen.host", host.to_string(), "--host");
        }
        if let Some(port) = self.port {
            sources = sources.with("listen.port", port.to_string(), "--port");
        }
        sources
    }
}

/// The settings file.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigFile {
    /// Settings file (TOML), with a section a service; one file may serve them all. Variables named
    /// `WEIR_<SECTION>__<KEY>` override it.
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", global = true)]
    config: Option<OsString>,
}

impl ConfigFile {
    /// A variable that is set but empty counts as unset.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.config.clone().filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

#[derive(Debug, Args)]
struct Alone {
    #[command(flatten)]
    listen: ServeArgs,

    #[command(flatten)]
    config: ConfigFile,
}

/// What a service's own binary does: parse, run, exit code.
#[must_use]
pub fn main(service: Service) -> ExitCode {
    let matches = command(service).get_matches();
    let args = match Alone::from_arg_matches(&matches) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    block_on(
        service.name.program(),
        Box::pin(async move { serve(&[service], args.config.path(), &args.listen).await }),
    )
}

fn command(service: Service) -> Command {
    let about = format!("Weir's {}: {}.", service.name, service.name.about());
    Alone::augment_args(Command::new(service.name.program()))
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .after_help(format!(
            "Settings are those of `weir serve {}`. It calls the services of other processes where peers.<service> \
             says they are, signs with identity.keys.{0} and believes identity.trusted.<service>.",
            service.name
        ))
}

/// Runs a program to its end; the whole chain of an error, once, where the person at the terminal sees it.
#[must_use]
pub fn block_on(program: &str, future: impl Future<Output = Result<ExitCode>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.context("starting the runtime").and_then(|runtime| {
        let outcome = runtime.block_on(future);
        runtime.shutdown_timeout(RUNTIME_GRACE);
        weir_telemetry::shutdown();
        outcome
    });
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "{program}: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Name, Room};

    #[test]
    fn the_command_line_is_consistent_and_an_empty_variable_no_file() {
        let nothing = Service::new(Name::Router, |_| Box::pin(async { Ok(Room::default()) }));
        let command = command(nothing);
        command.clone().debug_assert();
        let parse = |args: &[&str]| {
            let matches = command.clone().try_get_matches_from(["weir-router"].iter().chain(args)).unwrap();
            Alone::from_arg_matches(&matches).unwrap()
        };
        assert_eq!(parse(&["--config", ""]).config.path(), None);
        let args = parse(&["--config", "x.toml", "--port", "9", "--host", "::1"]);
        assert_eq!(args.config.path(), Some(PathBuf::from("x.toml")));
        let overrides = args.listen.add_to(Sources::default()).overrides;
        let keys: Vec<_> = overrides.iter().map(|o| (o.key.as_str(), o.value.as_str(), o.origin)).collect();
        assert_eq!(keys, [("listen.host", "::1", "--host"), ("listen.port", "9", "--port")]);
    }
}
