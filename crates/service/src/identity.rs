//! Who the services of a process are, and whom they believe.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use rand::RngCore as _;
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use weir_config::Settings;
use weir_rpc::{Identity, PublicKey};
use weir_types::Clock;

use crate::{Name, Site, settings::IdentityConfig};

const PADDED_OR_NOT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDED_OR_NOT);

/// The identities of a process's services.
pub(crate) struct Identities {
    own: BTreeMap<Name, (Arc<Identity>, Kept)>,
    /// Whether anybody in another process may call.
    pub(crate) trusts_others: bool,
}

/// Whether a key outlives the process, so that others can know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Configured,
    Ephemeral,
}

impl Identities {
    /// The configured keys; fresh ones for services that have none, which do for calls within the process.
    pub(crate) fn load(settings: &Settings, names: &[Name], clock: &Arc<dyn Clock>) -> Result<Self> {
        let config: IdentityConfig = settings.section("identity")?;
        let mut own = BTreeMap::new();
        for &name in names {
            let made = match config.keys.get(&name) {
                Some(seed) => (from_seed(settings, name, seed, clock)?, Kept::Configured),
                None => (Identity::generate(name.as_str(), clock.clone())?, Kept::Ephemeral),
            };
            own.insert(name, (Arc::new(made.0), made.1));
        }
        let trusted = trusted(settings, &config)?;
        let mut all: Vec<PublicKey> = own.values().map(|(identity, _)| identity.public().clone()).collect();
        all.extend(trusted.iter().cloned());
        for (identity, _) in own.values() {
            identity.trust(&all).context("identity")?;
        }
        Ok(Self { own, trusts_others: !trusted.is_empty() })
    }

    /// For calls that arrive.
    pub(crate) fn of(&self, name: Name) -> Result<Arc<Identity>> {
        let (identity, _) = self.own.get(&name).with_context(|| format!("{name} is not in this process"))?;
        Ok(identity.clone())
    }

    /// For calls to `peer` at another process.
    pub(crate) fn for_calls(&self, settings: &Settings, name: Name, peer: Name) -> Result<Arc<Identity>> {
        let (identity, kept) =
            self.own.get(&name).with_context(|| format!("{name} is not in this process"))?;
        if *kept == Kept::Ephemeral {
            let at = format!("peers.{peer}");
            return Err(anyhow::anyhow!(settings.refuse(
                &format!("identity.keys.{name}"),
                format!(
                    "is not set (WEIR_IDENTITY__KEYS__{}): {name} calls {peer}, which runs in another process \
                     ({at}) and has to know its key; `weir keys` makes a set",
                    name.as_str().to_ascii_uppercase()
                ),
            )));
        }
        Ok(identity.clone())
    }
}

impl Site {
    /// The service's own, for what it hands over or is handed outside gRPC.
    ///
    /// # Errors
    /// The service is not in this process, which is a bug.
    pub fn identity(&self) -> Result<Arc<Identity>> {
        self.shared.identities.of(self.name)
    }
}

fn from_seed(
    settings: &Settings,
    name: Name,
    seed: &SecretString,
    clock: &Arc<dyn Clock>,
) -> Result<Identity> {
    let bad = || {
        settings.refuse(
            &format!("identity.keys.{name}"),
            "must be 32 bytes in base64, as `weir keys` prints them",
        )
    };
    let bytes = Zeroizing::new(decode(seed.expose_secret()).ok_or_else(bad)?);
    Ok(Identity::from_seed(name.as_str(), &bytes, clock.clone())?)
}

fn trusted(settings: &Settings, config: &IdentityConfig) -> Result<Vec<PublicKey>> {
    let mut all = Vec::new();
    for (name, keys) in &config.trusted {
        for text in keys {
            let key = decode(text).and_then(|point| PublicKey::new(name.as_str(), &point).ok());
            all.push(key.ok_or_else(|| {
                settings.refuse(
                    &format!("identity.trusted.{name}"),
                    "must be public Ed25519 keys in base64, separated by commas, as `weir keys` prints them",
                )
            })?);
        }
    }
    Ok(all)
}

/// Either alphabet, padded or not.
fn decode(text: &str) -> Option<[u8; 32]> {
    let standard = Zeroizing::new(text.trim().replace('-', "+").replace('_', "/"));
    let bytes = Zeroizing::new(BASE64.decode(standard.as_bytes()).ok()?);
    <[u8; 32]>::try_from(bytes.as_slice()).ok()
}

/// Fresh keys for services that run apart: each one's secret half, and every public half for all of them.
pub struct Keys(Vec<(Name, [u8; 32], PublicKey)>);

impl Keys {
    /// # Errors
    /// A key cannot be encoded, which is a bug.
    pub fn generate(names: &[Name], clock: &Arc<dyn Clock>) -> Result<Self> {
        let mut keys = Vec::new();
        for &name in names {
            let mut seed = [0; 32];
            rand::rng().fill_bytes(&mut seed);
            let identity = Identity::from_seed(name.as_str(), &seed, clock.clone())?;
            keys.push((name, seed, identity.public().clone()));
        }
        Ok(Self(keys))
    }

    /// Variables and values, secret ones first.
    pub fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let secret = self.0.iter().map(|(name, seed, _)| (variable("KEYS", *name), STANDARD.encode(seed)));
        secret.chain(self.public())
    }

    fn public(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().map(|(name, _, key)| {
            (variable("TRUSTED", *name), STANDARD.encode(decode(&key.x).unwrap_or_default()))
        })
    }

    /// The variables of one service that runs apart: its own secret half, and its callers' public ones.
    #[must_use]
    pub fn among_peers(&self, name: Name) -> Vec<(String, String)> {
        let callers: Vec<_> =
            Name::ALL.into_iter().filter(|c| c.calls(name)).map(|c| variable("TRUSTED", c)).collect();
        let wanted = |variable: &str| {
            variable == self::variable("KEYS", name) || callers.iter().any(|c| c == variable)
        };
        self.of(name).into_iter().filter(|(variable, _)| wanted(variable)).collect()
    }

    /// The variables of one service: its own secret half, and every public one.
    #[must_use]
    pub fn of(&self, name: Name) -> Vec<(String, String)> {
        let own = self.0.iter().find(|(known, ..)| *known == name);
        let own = own.map(|(name, seed, _)| (variable("KEYS", *name), STANDARD.encode(seed)));
        own.into_iter().chain(self.public()).collect()
    }
}

fn variable(table: &str, name: Name) -> String {
    format!("WEIR_IDENTITY__{table}__{}", name.as_str().to_ascii_uppercase())
}
