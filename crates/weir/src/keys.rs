//! `weir keys`: what services that run apart know each other by, and the key of the platform's operator.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};
use weir_service::{Keys, Name};
use weir_types::{Clock, KeyId, SystemClock, api_key};

use crate::cli::{KeysArgs, KeysFormat};

/// Of each service, in a folder of its own.
const SETTINGS: &str = "weir.toml";
const ADMIN_KEY_SHA256: &str = "WEIR_CONTROL__ADMIN_KEY_SHA256";

pub(crate) fn run(args: &KeysArgs) -> Result<ExitCode> {
    if let Some(file) = args.output.as_deref().filter(|file| file.exists()) {
        say(&format!("{} is there already and stays as it is", file.display()));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = &args.output_dir {
        return run_apart(folder, args.admin);
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let names = if args.services.is_empty() { &Name::ALL[..] } else { &args.services };
    let mut variables: Vec<_> = Keys::generate(names, &clock)?.variables().collect();
    let admin_key = args.admin.then(new_admin_key);
    if let Some(key) = &admin_key {
        variables.push((ADMIN_KEY_SHA256.to_owned(), sha256(key)));
    }
    let text = match args.format {
        KeysFormat::Env => env(&variables),
        KeysFormat::Kubernetes => kubernetes(&variables),
        KeysFormat::Toml => toml(&variables),
    };
    match &args.output {
        Some(file) => write(file, &text).with_context(|| format!("writing {}", file.display()))?,
        None => io::stdout().write_all(text.as_bytes())?,
    }
    show(admin_key.as_deref());
    Ok(ExitCode::SUCCESS)
}

/// Last: a key whose hash was not kept would open nothing.
fn show(admin_key: Option<&str>) {
    if let Some(key) = admin_key {
        say(&format!("the platform's key, which is shown this once: {key}"));
    }
}

/// A file for each service: nobody else's key is in a container of its own.
fn run_apart(folder: &Path, admin: bool) -> Result<ExitCode> {
    let file = |name: Name| folder.join(name.as_str()).join(SETTINGS);
    let (there, missing): (Vec<_>, Vec<_>) = Name::ALL.into_iter().partition(|&name| file(name).exists());
    if missing.is_empty() {
        say(&format!("{} has every service's file already and stays as it is", folder.display()));
        return Ok(ExitCode::SUCCESS);
    }
    // Services know each other by one set: what is missing cannot be added to it.
    anyhow::ensure!(
        there.is_empty(),
        "{} lacks files of its set: remove what is left of it, and a new one is made",
        folder.display()
    );
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keys = Keys::generate(&Name::ALL, &clock)?;
    let admin_key = admin.then(new_admin_key);
    for name in Name::ALL {
        let mut variables = keys.among_peers(name);
        if let Some(key) = admin_key.as_ref().filter(|_| name == Name::Control) {
            variables.push((ADMIN_KEY_SHA256.to_owned(), sha256(key)));
        }
        let file = file(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        write(&file, &toml(&variables)).with_context(|| format!("writing {}", file.display()))?;
    }
    show(admin_key.as_deref());
    Ok(ExitCode::SUCCESS)
}

/// Not on standard output, which has the keys.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// For its owner alone, and whole or not at all.
fn write(file: &Path, text: &str) -> Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let mut options = fs::OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    open.write_all(text.as_bytes())?;
    open.sync_all()?;
    Ok(fs::rename(&part, file)?)
}

/// Lines of an environment file.
fn env(variables: &[(String, String)]) -> String {
    variables.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name}={value}");
        text
    })
}

/// A manifest of the Secret `weir-identity`, whose keys are the variables' names.
fn kubernetes(variables: &[(String, String)]) -> String {
    let head = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: weir-identity\ntype: Opaque\nstringData:\n"
        .to_owned();
    variables.iter().fold(head, |mut text, (name, value)| {
        let _ = writeln!(text, "  {name}: \"{value}\"");
        text
    })
}

/// A settings file, a dotted key a line.
fn toml(variables: &[(String, String)]) -> String {
    variables.iter().fold(String::new(), |mut text, (name, value)| {
        let key = name.trim_start_matches("WEIR_").to_ascii_lowercase().replace("__", ".");
        let _ = if key.starts_with("identity.trusted.") {
            writeln!(text, "{key} = [\"{value}\"]")
        } else {
            writeln!(text, "{key} = \"{value}\"")
        };
        text
    })
}

pub(crate) fn new_admin_key() -> String {
    let mut entropy = [0; 32];
    rand::rng().fill_bytes(&mut entropy);
    api_key::assemble(api_key::KeyKind::Admin, KeyId::new(), &entropy)
}

/// In hex, as `control.admin_key_sha256` has it.
pub(crate) fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use weir_config::Sources;

    use super::*;

    fn args(format: KeysFormat, output: &Path) -> KeysArgs {
        KeysArgs {
            services: vec![Name::Gateway],
            format,
            admin: true,
            output: Some(output.to_owned()),
            output_dir: None,
        }
    }

    #[test]
    fn a_settings_file_is_one_that_services_read_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        run(&args(KeysFormat::Toml, &file)).unwrap();
        let first = fs::read_to_string(&file).unwrap();
        weir_service::load(&Sources::default().with_file(&file)).unwrap();
        for key in
            ["identity.keys.gateway = \"", "identity.trusted.gateway = [\"", "control.admin_key_sha256 = \""]
        {
            assert!(first.contains(key), "{key}: {first}");
        }
        run(&args(KeysFormat::Toml, &file)).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), first);
    }

    #[test]
    fn each_service_gets_its_own_key_and_those_of_its_callers() {
        let folder = tempfile::tempdir().unwrap();
        let args = KeysArgs {
            services: Vec::new(),
            format: KeysFormat::Env,
            admin: true,
            output: None,
            output_dir: Some(folder.path().to_owned()),
        };
        run(&args).unwrap();
        let read = |name: Name| {
            let file = folder.path().join(name.as_str()).join("weir.toml");
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            weir_service::load(&Sources::default().with_file(&file)).unwrap();
            fs::read_to_string(&file).unwrap()
        };
        let texts: Vec<_> = Name::ALL.into_iter().map(|name| (name, read(name))).collect();
        for (name, text) in &texts {
            assert_eq!(text.matches("identity.keys.").count(), 1, "{text}");
            assert!(text.contains(&format!("identity.keys.{name} = \"")), "{text}");
            assert_eq!(text.contains("control.admin_key_sha256"), *name == Name::Control);
            let trusts = |caller: Name| text.contains(&format!("identity.trusted.{caller} = ["));
            assert_eq!(trusts(Name::Gateway), *name != Name::Gateway);
            assert!(!trusts(Name::Billing) && !trusts(Name::Control));
        }
        run(&args).unwrap();
        assert!(texts.iter().all(|(name, text)| read(*name) == *text), "a set stays");
        fs::remove_file(folder.path().join("router/weir.toml")).unwrap();
        assert!(run(&args).is_err(), "half a set is none");
    }

    #[test]
    fn the_variables_are_the_same_in_every_format() {
        let variables = [("WEIR_IDENTITY__KEYS__GATEWAY".to_owned(), "AAA=".to_owned())];
        assert_eq!(env(&variables), "WEIR_IDENTITY__KEYS__GATEWAY=AAA=\n");
        assert!(kubernetes(&variables).ends_with("stringData:\n  WEIR_IDENTITY__KEYS__GATEWAY: \"AAA=\"\n"));
        assert_eq!(toml(&variables), "identity.keys.gateway = \"AAA=\"\n");
    }

    #[test]
    fn an_admin_key_is_one() {
        let key = new_admin_key();
        assert_eq!(api_key::parse(&key).map(|form| form.kind), Some(api_key::KeyKind::Admin));
        assert_eq!(sha256("").get(..8), Some("e3b0c442"));
    }
}
