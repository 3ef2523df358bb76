//! What clients keep of a conversation that was compacted here: sealed, and opened when it comes back.
//!
//! The key is the tenant's own, in the database: every instance has it, and no other tenant's item opens under it. Whose it
//! is stands within, beside the summary: another user of the tenant is refused as well.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use quick_cache::sync::Cache;
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};
use weir_error::{Error, require_tenant};
use weir_types::{RequestContext, TenantId};

use crate::{
    app::cipher::{self, SecretKey},
    store,
};

/// Before everything that was sealed here; the number grows with the form.
pub(super) const PREFIX: &str = "weirc1.";
/// Tenants whose keys are remembered.
const KEYS: usize = 4_096;

#[derive(Clone)]
pub(super) struct Seals {
    store: store::Responses,
    keys: Arc<Cache<TenantId, SecretKey>>,
    random: SystemRandom,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    /// The user for whom it was made; empty where the key has none.
    by: String,
    said: String,
}

/// A tenant's key, ready to seal.
pub(super) struct Seal {
    key: SecretKey,
    about: String,
    by: String,
    random: SystemRandom,
}

impl Seals {
    pub(super) fn new(store: store::Responses) -> Self {
        Self { store, keys: Arc::new(Cache::new(KEYS)), random: SystemRandom::new() }
    }

    /// # Errors
    /// `Unavailable` without the database.
    pub(super) async fn seal(&self, ctx: &RequestContext) -> Result<Seal, Error> {
        let new = cipher::new_key(&self.random).ok_or_else(unsealed)?;
        let key = self.key(ctx, Some(&new)).await?.ok_or_else(unsealed)?;
        Ok(Seal { key, about: about(require_tenant(ctx)?), by: by(ctx), random: self.random.clone() })
    }

    /// What was sealed for this tenant. `any`: for whichever of its users. `None`: for nobody here, or by nobody.
    ///
    /// # Errors
    /// `Unavailable` without the database.
    pub(super) async fn open(
        &self,
        ctx: &RequestContext,
        sealed: &str,
        any: bool,
    ) -> Result<Option<String>, Error> {
        let Some(bytes) = sealed.strip_prefix(PREFIX).and_then(|sealed| BASE64.decode(sealed).ok()) else {
            return Ok(None);
        };
        let Some(key) = self.key(ctx, None).await? else { return Ok(None) };
        let plain = cipher::open(&key, about(require_tenant(ctx)?).as_bytes(), &bytes);
        let opened = plain.and_then(|plain| serde_json::from_slice::<Sealed>(&plain).ok());
        Ok(opened.filter(|opened| any || opened.by == by(ctx)).map(|opened| opened.said))
    }

    async fn key(&self, ctx: &RequestContext, new: Option<&SecretKey>) -> Result<Option<SecretKey>, Error> {
        let tenant = require_tenant(ctx)?;
        if let Some(key) = self.keys.get(&tenant) {
            return Ok(Some(key));
        }
        let key = self.store.seal_key(ctx, new.map(|key| &key[..])).await?;
        let key = key.and_then(|key| SecretKey::try_from(key).ok());
        if let Some(key) = key {
            self.keys.insert(tenant, key);
        }
        Ok(key)
    }
}

impl Seal {
    /// # Errors
    /// `Internal` where there is no randomness.
    pub(super) fn seal(&self, said: String) -> Result<String, Error> {
        let plain = serde_json::to_vec(&Sealed { by: self.by.clone(), said }).unwrap_or_default();
        let sealed = cipher::seal(&self.random, &self.key, self.about.as_bytes(), plain);
        Ok(format!("{PREFIX}{}", BASE64.encode(sealed.ok_or_else(unsealed)?)))
    }
}

fn about(tenant: TenantId) -> String {
    format!("weir compaction 1 {tenant}")
}

fn by(ctx: &RequestContext) -> String {
    ctx.user().map(|user| user.to_string()).unwrap_or_default()
}

fn unsealed() -> Error {
    Error::internal(std::io::Error::other("no key to seal under"))
}
