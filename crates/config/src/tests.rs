//! Loading as a service does it.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use crate::{Alias, ByteSize, ConfigError, Invalid, Ranged, Settings, Sources, load, load_checked};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    debug: bool,
    redis: Redis,
    log: Log,
    cors: Cors,
    providers: BTreeMap<String, Provider>,
    listen: Vec<Listen>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Redis {
    url: Option<String>,
    enabled: bool,
    port: u16,
    ratio: f64,
    #[serde(with = "crate::duration")]
    timeout: Duration,
    pool: Ranged<1, 100>,
    max: ByteSize,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            enabled: true,
            port: 6379,
            ratio: 0.5,
            timeout: Duration::from_millis(50),
            pool: Ranged::clamped(8),
            max: ByteSize::mib(1),
        }
    }
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Log {
    format: Format,
    level: String,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Pretty,
}

// Without deny_unknown_fields on purpose: the loader refuses unknown keys all the same.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Cors {
    origins: Vec<String>,
    ports: Vec<u16>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Provider {
    api_key: String,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Listen {
    port: u16,
}

const ALIASES: &[Alias] = &[
    ("REDIS_URL", "redis.url"),
    ("REDIS_ENABLED", "redis.enabled"),
    ("OPENAI_API_KEY", "providers.openai.api_key"),
    ("CORS_ORIGINS", "cors.origins"),
    ("DEBUG", "debug"),
];

fn sources(file: Option<&str>, env: &[(&str, &str)]) -> (Sources, Option<tempfile::TempDir>) {
    let folder = file.map(|text| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("weir.toml"), text).unwrap();
        folder
    });
    let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let file = folder.as_ref().map(|f| f.path().join("weir.toml"));
    (Sources { file, env, aliases: ALIASES.to_vec(), ..Sources::default() }, folder)
}

fn loaded(file: Option<&str>, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let (sources, _folder) = sources(file, env);
    load(&sources)
}

/// The error's text, without the folder's name.
fn error(file: Option<&str>, env: &[(&str, &str)]) -> String {
    let (sources, folder) = sources(file, env);
    let text = load::<Config>(&sources).unwrap_err().to_string();
    folder.map_or(text.clone(), |f| text.replace(&format!("{}/", f.path().display()), ""))
}

#[test]
fn nothing_gives_the_defaults() {
    assert_eq!(loaded(None, &[]).unwrap(), Config::default());
}

#[test]
fn an_alias_wins_over_the_file_and_the_setting_s_own_variable_over_both() {
    let file = "[redis]\nurl = 'file'\nport = 1\ntimeout = '2s'\nmax = '2MiB'\n";
    let config = loaded(Some(file), &[("WEIR_REDIS__PORT", "2")]).unwrap();
    assert_eq!((config.redis.url.as_deref(), config.redis.port), (Some("file"), 2));
    assert_eq!((config.redis.timeout, config.redis.max), (Duration::from_secs(2), ByteSize::mib(2)));
    let config = loaded(Some(file), &[("WEIR_REDIS__URL", "env"), ("REDIS_URL", "alias")]).unwrap();
    assert_eq!(config.redis.url.as_deref(), Some("env"));
}

#[test]
fn a_variable_is_read_as_its_target() {
    let config = loaded(
        None,
        &[
            ("WEIR_REDIS__RATIO", "2"),
            ("WEIR_REDIS__TIMEOUT", "1m"),
            ("WEIR_REDIS__POOL", "1_0"),
            ("REDIS_ENABLED", "False"),
            ("DEBUG", "1"),
            // Looks like a number and a boolean; is text all the same.
            ("OPENAI_API_KEY", "12345"),
            ("WEIR_LOG__LEVEL", "true"),
            ("WEIR_LOG__FORMAT", "pretty"),
            ("WEIR_CORS__PORTS", "1, 2"),
            ("CORS_ORIGINS", r#"["https://a", "https://b"]"#),
        ],
    )
    .unwrap();
    assert_eq!(config.redis.ratio, 2.0);
    assert_eq!(config.redis.timeout, Duration::from_secs(60));
    assert_eq!((config.redis.pool.get(), config.redis.enabled, config.debug), (10, false, true));
    assert_eq!(config.providers["openai"].api_key, "12345");
    assert_eq!((config.log.level.as_str(), config.log.format), ("true", Format::Pretty));
    assert_eq!(
        config.cors,
        Cors { origins: vec!["https://a".into(), "https://b".into()], ports: vec![1, 2] }
    );
}

#[test]
fn variables_reach_into_arrays_and_whole_tables() {
    let file = "[[listen]]\nport = 1\n[[listen]]\nport = 2\n";
    let config =
        loaded(Some(file), &[("WEIR_LISTEN__1__PORT", "3"), ("WEIR_PROVIDERS__X", "{ api_key = 'k' }")]);
    let config = config.unwrap();
    assert_eq!(config.listen, [Listen { port: 1 }, Listen { port: 3 }]);
    assert_eq!(config.providers["x"].api_key, "k");
    assert!(error(Some(file), &[("WEIR_LISTEN__7__PORT", "3")]).contains("`7` is not an index"));
    assert!(
        error(Some("debug = true"), &[("WEIR_DEBUG__X", "3")]).contains("what is a boolean in weir.toml:1")
    );
}

#[test]
fn what_is_not_configuration_is_left_alone_and_empty_is_unset() {
    let env = [
        ("WEIR_GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ("PATH", "/bin"),
        ("REDIS_URL", ""),
        ("WEIR_REDIS__PORT", ""),
    ];
    assert_eq!(loaded(None, &env).unwrap(), Config::default());
}

#[test]
fn errors_name_the_key_and_the_source() {
    let file = "debug = false\n[redis]\nport = 70000\n";
    assert_eq!(
        error(Some(file), &[]),
        "weir.toml:3: `redis.port` has a value out of range: expected u16, found another whole number"
    );
    for (name, value, want) in [
        (
            "WEIR_REDIS__PORT",
            "many",
            "WEIR_REDIS__PORT: `redis.port` has the wrong type: expected a whole number, found text",
        ),
        ("WEIR_REDIS__POOL", "101", "WEIR_REDIS__POOL: `redis.pool` is wrong: 101 is out of range: 1 to 100"),
        (
            "WEIR_REDIS__PROT",
            "1",
            "WEIR_REDIS__PROT: `redis.prot` is not a known key here: expected one of url, enabled",
        ),
        ("WEIR_CORS__ORIGIN", "x", "WEIR_CORS__ORIGIN: `cors.origin` is not a known key"),
        (
            "WEIR_REDIS__TIMEOUT",
            "soon",
            "WEIR_REDIS__TIMEOUT: `redis.timeout` is wrong: expected a duration such as",
        ),
        (
            "WEIR_LOG__FORMAT",
            "xml",
            "WEIR_LOG__FORMAT: `log.format` has a value that is not known: expected one of json, pretty",
        ),
        ("WEIR_CORS__PORTS", "1,x", "WEIR_CORS__PORTS: `cors.ports.1` has the wrong type"),
        ("WEIR_PROVIDERS__A__KEY", "x", "WEIR_PROVIDERS__A__KEY: `providers.a.key` is not a known key here"),
        ("WEIR_NO__SUCH", "x", "WEIR_NO__SUCH: `no` is not a known key here"),
        ("WEIR_REDIS____PORT", "1", "WEIR_REDIS____PORT: not of the form"),
        (
            "REDIS_ENABLED",
            "maybe",
            "REDIS_ENABLED: `redis.enabled` has the wrong type: expected true or false",
        ),
        ("DEBUG", "x", "DEBUG: `debug` has the wrong type"),
    ] {
        let text = error(None, &[(name, value)]);
        assert!(text.starts_with(want), "{text}\nwanted {want}");
    }
    assert_eq!(
        error(Some("[redis]\nenabled = 'yes'"), &[]),
        "weir.toml:2: `redis.enabled` has the wrong type: expected a boolean, found text"
    );
    assert_eq!(
        error(Some("redis = 3"), &[]),
        "weir.toml:1: `redis` has the wrong type: expected a table, found a whole number"
    );
}

#[test]
fn secrets_are_never_printed() {
    for (file, env) in [
        (Some("[providers.openai]\napi_key = hunter2"), vec![]),
        (Some("[redis]\nport = 'hunter2'"), vec![]),
        (Some("[redis]\ntimeout = 'hunter2'\n"), vec![]),
        (None, vec![("WEIR_REDIS__PORT", "hunter2")]),
        (None, vec![("DEBUG", "hunter2")]),
        (None, vec![("WEIR_LOG__FORMAT", "hunter2")]),
        (None, vec![("WEIR_CORS__PORTS", "[hunter2")]),
        (None, vec![("WEIR_REDIS", "x"), ("WEIR_PROVIDERS__OPENAI", "{ api_key = hunter2")]),
    ] {
        let text = error(file, &env);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!format!("{:?}", sources(file, &env).0).contains("hunter2"));
    }
}

#[test]
fn a_file_that_is_not_there_or_not_toml_says_where() {
    let missing = Sources::default().with_file("/no/such/weir.toml");
    assert!(load::<Config>(&missing).unwrap_err().to_string().contains("/no/such/weir.toml"));
    assert!(error(Some("debug = true\nredis = [\n"), &[]).starts_with("weir.toml:"));
}

#[test]
fn a_check_over_the_whole_is_reported_with_its_source_and_origins_are_told() {
    let (sources, _folder) = sources(Some("[redis]\nport = 1\n"), &[("WEIR_LOG__LEVEL", "info")]);
    let loaded = load_checked(&sources, |_: &Config| Ok(())).unwrap();
    assert_eq!(loaded.origins["log.level"], "WEIR_LOG__LEVEL");
    assert!(loaded.origins["redis.port"].ends_with("weir.toml:2"));
    let check = |key: &str| {
        let invalid = Invalid::new(key, "is below 1024");
        load_checked(&sources, |_: &Config| Err(invalid)).unwrap_err().to_string()
    };
    assert!(check("redis.port").ends_with("weir.toml:2: `redis.port` is below 1024"));
    assert_eq!(check("redis.pool"), "default: `redis.pool` is below 1024");
}

#[test]
fn the_fingerprint_follows_settings_from_any_source_and_no_secrets() {
    let of = |file, env: &[(&str, &str)]| {
        let (sources, _folder) = sources(file, env);
        load_checked(&sources, |_: &Config| Ok(())).unwrap().fingerprint
    };
    let file = of(Some("[redis]\nport = 1\n"), &[]);
    assert_eq!(file, of(None, &[("WEIR_REDIS__PORT", "1")]));
    assert_ne!(file, of(None, &[("WEIR_REDIS__PORT", "2")]));
    assert_eq!(of(None, &[("REDIS_URL", "a")]), of(None, &[("REDIS_URL", "b")]));
}

#[test]
fn sections_are_read_apart_and_name_key_and_source_all_the_same() {
    let (sources, _folder) =
        sources(Some("[redis]\nport = 1\n[stranger]\nx = 1\n"), &[("WEIR_LOG__LEVEL", "info")]);
    let settings = Settings::load(&sources.with("redis.port", "70000", "--port")).unwrap();
    assert_eq!(settings.section::<Log>("log").unwrap().level, "info");
    assert_eq!(settings.section::<Cors>("cors").unwrap(), Cors::default());
    let wrong = settings.section::<Redis>("redis").unwrap_err().to_string();
    assert!(wrong.starts_with("--port: `redis.port` has a value out of range"), "{wrong}");
    let unknown = settings.only(&["log", "redis"]).unwrap_err().to_string();
    assert!(
        unknown.ends_with("weir.toml:3: `stranger` is not a known section: expected one of log, redis"),
        "{unknown}"
    );
    assert_eq!(settings.refuse("log.level", "is odd").to_string(), "WEIR_LOG__LEVEL: `log.level` is odd");
}
