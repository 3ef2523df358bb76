//! API keys of the caller's tenant.

use rand::{TryRngCore as _, rngs::OsRng};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use weir_error::{Code, Error, require_scope, require_tenant};
use weir_proto::control::{CreateApiKeyRequest, GetApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest};
use weir_types::{
    KeyId, RequestContext,
    api_key::{self, KeyKind},
    scope,
};

use super::{App, Page, changes, is_platform, page::Wanted, validate};
use crate::store::{ApiKey, Inserted, NewKey};

/// A new key. Its secret is nowhere else.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) key: ApiKey,
    pub(crate) secret: SecretString,
}

fn not_found() -> Error {
    Error::new(Code::NotFound, "no such API key")
}

fn too_many(most: u32) -> Error {
    let message = format!(
        "a tenant has {most} API keys at most (control.max_keys_per_tenant), those revoked within a day among them"
    );
    Error::new(Code::Conflict, message)
}

fn may_manage(ctx: &RequestContext) -> Result<(), Error> {
    require_tenant(ctx)?;
    if is_platform(ctx) { Ok(()) } else { require_scope(ctx, scope::KEYS_MANAGE) }
}

impl App {
    pub(crate) async fn create_key(
        &self,
        ctx: &RequestContext,
        request: &CreateApiKeyRequest,
    ) -> Result<Created, Error> {
        may_manage(ctx)?;
        let scopes = validate::scopes(&request.scopes)?;
        if let Some(missing) = scopes.iter().find(|s| !is_platform(ctx) && !ctx.has_scope(s)) {
            let message = format!("this credential lacks the scope {missing}, so it cannot grant it");
            return Err(Error::new(Code::PermissionDenied, message).with_param("scopes"));
        }
        let now_ms = self.clock.now_ms();
        let id = KeyId::new();
        let secret = new_secret(id)?;
        let new = NewKey {
            id,
            name: validate::name(&request.name)?,
            sha256: Sha256::digest(secret.expose_secret()).into(),
            scopes,
            user: validate::user(&request.user_id)?,
            created_at_ms: now_ms,
            expires_at_ms: validate::expiry(request.expires_at_ms, now_ms)?,
        };
        let tell =
            |tenant, key: &ApiKey| changes::of_key(ctx, changes::What::KeyCreated, tenant, key, now_ms);
        let key = match self.keys.insert(ctx, &new, self.max_keys, tell).await? {
            Inserted::Key(key) => key,
            Inserted::NoTenant => return Err(Error::new(Code::NotFound, "no such tenant")),
            Inserted::TooMany => return Err(too_many(self.max_keys)),
        };
        tracing::info!(business_event = "api_key_created", key.id = %key.id, key.scopes = ?key.scopes, "api key created");
        Ok(Created { key, secret })
    }

    pub(crate) async fn get_key(
        &self,
        ctx: &RequestContext,
        request: &GetApiKeyRequest,
    ) -> Result<ApiKey, Error> {
        may_manage(ctx)?;
        let id = request.id.parse().map_err(|_| not_found())?;
        self.keys.get(ctx, id).await?.ok_or_else(not_found)
    }

    pub(crate) async fn list_keys(
        &self,
        ctx: &RequestContext,
        request: &ListApiKeysRequest,
    ) -> Result<Page<ApiKey>, Error> {
        may_manage(ctx)?;
        let wanted = Wanted::new(request.limit, &request.after)?;
        let rows = self.keys.list(ctx, wanted.before, wanted.rows()).await?;
        Ok(wanted.page(rows, |key| key.id.0))
    }

    /// Done once committed. One that was revoked before was told of then, in the transaction that revoked it.
    pub(crate) async fn revoke_key(
        &self,
        ctx: &RequestContext,
        request: &RevokeApiKeyRequest,
    ) -> Result<ApiKey, Error> {
        may_manage(ctx)?;
        let id = request.id.parse().map_err(|_| not_found())?;
        let now_ms = self.clock.now_ms();
        let tell =
            |tenant, key: &ApiKey| changes::of_key(ctx, changes::What::KeyRevoked, tenant, key, now_ms);
        let key = self.keys.revoke(ctx, id, now_ms, tell).await?.ok_or_else(not_found)?;
        tracing::info!(business_event = "api_key_revoked", key.id = %key.id, "api key revoked");
        Ok(key)
    }
}

fn new_secret(id: KeyId) -> Result<SecretString, Error> {
    let mut entropy = [0; 32];
    OsRng.try_fill_bytes(&mut entropy).map_err(Error::internal)?;
    Ok(api_key::assemble(KeyKind::Live, id, &entropy).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_well_formed_different_and_not_shown() {
        let id = KeyId::new();
        let (one, two) = (new_secret(id).unwrap(), new_secret(id).unwrap());
        assert_ne!(one.expose_secret(), two.expose_secret());
        assert_eq!(api_key::parse(one.expose_secret()).map(|f| (f.kind, f.id)), Some((KeyKind::Live, id)));
        let key = ApiKey {
            id,
            name: "n".into(),
            scopes: Vec::new(),
            user: None,
            created_at_ms: 0,
            expires_at_ms: None,
            revoked_at_ms: None,
        };
        let public = api_key::public_part(KeyKind::Live, id);
        let secret = one.expose_secret().strip_prefix(&public).unwrap().to_owned();
        assert!(!format!("{:?}", Created { key, secret: one }).contains(&secret[1..]));
    }
}
