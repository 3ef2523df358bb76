//! The command line, as `--help` shows it.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser as _},
};
use http::Uri;
use weir_service::{ConfigFile, Name, ServeArgs};

use crate::{analytics::AnalyticsArgs, dlq::DlqArgs};

/// Eight services listen on consecutive ports, so the first one is bounded.
const LAST_FIRST_PORT: i64 = 65_535 - 7;

/// Weir: one address for many tenants and many language models.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all eight services in one process, with a PostgreSQL, a NATS and a Redis of their own.
    Dev(DevArgs),
    /// Run services in this process: those named call each other without a network hop, the others over it.
    Serve(ServeCommand),
    /// Make the keys that services which run apart know each other by.
    Keys(KeysArgs),
    /// Bring a database's schema up to date and create the role the services log in as.
    Migrate(MigrateArgs),
    /// Run the model provider simulator alone.
    Simulator(SimulatorArgs),
    /// Ask a service whether it is ready; exits with 1 when it is not.
    Health(HealthArgs),
    /// Look at, replay and drop dead letters: events that no consumer could handle.
    Dlq(DlqArgs),
    /// Tell analytics what to do.
    Analytics(AnalyticsArgs),
}

pub(crate) const DATA: &str = ".weir";

/// A variable that is set but empty counts as unset.
pub(crate) fn data(text: &str) -> Result<PathBuf, Infallible> {
    Ok(PathBuf::from(if text.is_empty() { DATA } else { text }))
}

#[derive(Debug, Args)]
pub struct DevArgs {
    #[command(subcommand)]
    pub action: Option<DevAction>,

    /// Folder of everything this house keeps: databases, logs, keys, dev.json.
    #[arg(long, value_name = "DIR", default_value = DATA, env = "WEIR_DATA", value_parser = data, global = true)]
    pub data: PathBuf,

    /// The gateway's port; the other services take the seven after it, in the order realtime, router,
    /// orchestrator, analytics, billing, ingestion, control.
    #[arg(long, value_name = "N", default_value_t = 8000, value_parser = clap::value_parser!(u16).range(1..=LAST_FIRST_PORT))]
    pub port: u16,

    /// Address the gateway listens on; the other services stay on 127.0.0.1.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,

    /// Wipe this house's data first. Databases named by DATABASE_URL, NATS_URL or REDIS_URL are not touched.
    #[arg(long)]
    pub reset: bool,

    #[command(flatten)]
    pub stores: StoreArgs,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub enum DevAction {
    /// Stop the house of this folder and wait until it is gone.
    Stop,
    /// Say whether the house of this folder runs, and which services are ready. Exits with 1 when one is not.
    Status,
    /// Stop the house of this folder and wipe its data.
    Reset,
}

/// Servers of your own instead of children, and where the children's programs are.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// A PostgreSQL of your own. The login must be allowed to create roles.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// A NATS of your own, with JetStream.
    #[arg(long, value_name = "URL", env = "NATS_URL", hide_env_values = true)]
    pub nats_url: Option<String>,

    /// A Redis of your own. Without one, a redis-server on the PATH is used, else memory.
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,

    /// Folder with PostgreSQL's postgres and initdb.
    #[arg(long, value_name = "DIR", env = "WEIR_PG_BIN", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub pg_bin: Option<PathBuf>,

    /// The nats-server program.
    #[arg(long, value_name = "FILE", env = "WEIR_NATS_BIN", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub nats_bin: Option<PathBuf>,

    /// The redis-server program.
    #[arg(long, value_name = "FILE", env = "WEIR_REDIS_BIN", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub redis_bin: Option<PathBuf>,
}

impl StoreArgs {
    /// A variable that is set but empty counts as unset.
    pub(crate) fn without_blanks(mut self) -> Self {
        for url in [&mut self.database_url, &mut self.nats_url, &mut self.redis_url] {
            url.take_if(|url| url.trim().is_empty());
        }
        for path in [&mut self.pg_bin, &mut self.nats_bin, &mut self.redis_bin] {
            path.take_if(|path| path.as_os_str().is_empty());
        }
        self
    }
}

#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub struct ServeCommand {
    /// Services to run here.
    #[arg(value_name = "SERVICE", required = true, value_enum)]
    pub services: Vec<Name>,

    #[command(flatten)]
    pub listen: ServeArgs,
}

const SERVE_HELP: &str = "\
Settings, in the file or as WEIR_<SECTION>__<KEY>:
  database.url                DATABASE_URL: a login of the role that `weir migrate` made
  nats.url, redis.url         NATS_URL, REDIS_URL; without Redis, memory
  peers.<service>             where a service of another process is [default: http://127.0.0.1:<its port>]
  identity.keys.<service>     the signing key of a service of this process
  identity.trusted.<service>  public keys of callers in other processes (`weir keys` makes a set of both)
  listen.ops                  host:port for /metrics, /info and /health instead (METRICS_PORT: the port alone)
  orchestrator.spool_dir      a folder that outlives the process, one for each instance
  control.admin_key_sha256    SHA-256 of the platform operator's key
  control.max_keys_per_tenant API keys a tenant may have, those revoked within a day among them [default: 10000]

Services that cannot be reached yet, and NATS, are waited for while serving. Migrations that are pending, or a database
login that could see every tenant, are refused. SIGTERM ends requests under way, then the process; a second one does
not wait.";

#[derive(Debug, Args)]
pub struct KeysArgs {
    /// Services to make keys for; all when none is named.
    #[arg(value_name = "SERVICE", value_enum)]
    pub services: Vec<Name>,

    /// What to print.
    #[arg(long, value_enum, default_value_t = KeysFormat::Env)]
    pub format: KeysFormat,

    /// Also a key of the platform's operator: its hash goes among the others as control.admin_key_sha256, the key
    /// itself to standard error, this once.
    #[arg(long)]
    pub admin: bool,

    /// Write to this file, which only its owner may read, instead of standard output. One that is there already stays.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Write each service a settings file of its own, DIR/<service>/weir.toml, which only its owner may read: its
    /// signing key, its callers' public ones and, for control, the hash of the operator's key. A set that is there
    /// already stays.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "format", "services"])]
    pub output_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeysFormat {
    /// Lines of an environment file: WEIR_IDENTITY__KEYS__… are secret, each for its service alone;
    /// WEIR_IDENTITY__TRUSTED__… are public, for all.
    Env,
    /// The manifest of a Secret weir-identity whose keys are the names of those variables.
    Kubernetes,
    /// A settings file.
    Toml,
}

#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Login that owns the schema; it must be allowed to create roles.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,

    /// Role the services log in as; created when missing.
    #[arg(long, value_name = "NAME", default_value = "weir_app", env = "WEIR_APP_ROLE")]
    pub app_role: String,

    /// That role's password.
    #[arg(long, value_name = "PASSWORD", env = "WEIR_APP_PASSWORD", hide_env_values = true)]
    pub app_password: String,
}

#[derive(Debug, Args)]
pub struct SimulatorArgs {
    /// Port to listen on; 0 takes a free one and prints it.
    #[arg(long, value_name = "N", default_value_t = 8099)]
    pub port: u16,

    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
}

#[derive(Debug, Args)]
pub struct HealthArgs {
    /// What has to answer 200.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000/ready")]
    pub url: Uri,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn dev(args: &[&str]) -> Result<DevArgs, clap::Error> {
        match Cli::try_parse_from(["weir", "dev"].iter().chain(args))?.command {
            Command::Dev(dev) => Ok(dev),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_last_service_needs_a_port_too() {
        assert_eq!(dev(&["--port", "65528"]).unwrap().port, 65_528);
        assert!(dev(&["--port", "65529"]).is_err());
        assert!(dev(&["--port", "0"]).is_err());
    }

    #[test]
    fn the_folder_may_stand_on_either_side_of_the_action() {
        for args in [["--data", "x", "stop"], ["stop", "--data", "x"]] {
            let dev = dev(&args).unwrap();
            assert!(matches!(dev.action, Some(DevAction::Stop)));
            assert_eq!(dev.data, PathBuf::from("x"));
        }
    }

    #[test]
    fn an_empty_variable_is_no_address_no_file_and_no_folder() {
        let dev = dev(&["--nats-url", "", "--redis-url", "redis://x", "--pg-bin", "", "--data", ""]).unwrap();
        assert_eq!(dev.data, PathBuf::from(DATA));
        let stores = dev.stores.without_blanks();
        assert_eq!((stores.nats_url, stores.redis_url.as_deref()), (None, Some("redis://x")));
        assert_eq!(stores.pg_bin, None);
        assert_eq!(Cli::try_parse_from(["weir", "--config", "", "keys"]).unwrap().config.path(), None);
    }

    #[test]
    fn serve_needs_a_service() {
        let serve = |args: &[&str]| Cli::try_parse_from(["weir", "serve"].iter().chain(args));
        assert!(serve(&[]).is_err() && serve(&["nobody"]).is_err());
        match serve(&["gateway", "control", "--port", "9"]).unwrap().command {
            Command::Serve(args) => assert_eq!(args.services, [Name::Gateway, Name::Control]),
            other => panic!("{other:?}"),
        }
    }
}
