//! Who a service is, and for whom it acts: one Ed25519-signed token per (principal, tenant, scopes, audience),
//! valid for a minute and reused; receivers remember verified tokens, so the steady cost on both sides is a lookup.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{SigningKey, VerifyingKey, pkcs8::EncodePrivateKey as _};
use http::{HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use quick_cache::sync::Cache;
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use weir_types::{Clock, KeyId, Principal, RequestContext, TenantId, UserId};

/// Carries a service's introduction on what it hands over outside gRPC.
pub const INTRODUCTION: HeaderName = HeaderName::from_static("x-weir-introduction");
const LIFETIME_S: i64 = 60;
/// Those that see credentials, or work for who showed them one. The others act in their own name only.
const SPEAK_FOR_CALLERS: [&str; 3] = ["gateway", "realtime", "orchestrator"];
/// A cached token is reused while it still lives this long.
const FRESH_S: i64 = 15;
/// Clocks of two machines may differ this much.
const SKEW_S: i64 = 5;
const CACHED: usize = 16_384;
/// Of the key's encoded point: 96 bits, which tell the few keys of a house apart.
const KID_CHARS: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("no identity token")]
    Missing,
    #[error("the identity token is signed by no service known here")]
    UnknownSigner,
    #[error("the identity token is not valid")]
    Invalid(#[source] jsonwebtoken::errors::Error),
    #[error("the identity token's {0} is malformed")]
    Malformed(&'static str),
    #[error("could not make a signing key")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("not the public key of an Ed25519 pair")]
    NotAKey,
    #[error("{0} and {1} are given the same key: each service has one of its own")]
    Shared(String, String),
}

/// A service's public half, as it is handed to the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKey {
    pub service: String,
    pub kid: String,
    /// The Ed25519 point, base64url, as `x` in RFC 8037.
    pub x: String,
}

impl PublicKey {
    /// # Errors
    /// The bytes are no point that a key could have.
    pub fn new(service: &str, point: &[u8; 32]) -> Result<Self, IdentityError> {
        VerifyingKey::from_bytes(point).map_err(|_| IdentityError::NotAKey)?;
        Ok(Self::of(service, point))
    }

    fn of(service: &str, point: &[u8; 32]) -> Self {
        let x = URL_SAFE_NO_PAD.encode(point);
        Self { service: service.to_owned(), kid: x.chars().take(KID_CHARS).collect(), x }
    }
}

/// Whom a verified token speaks for.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) principal: Principal,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) scopes: Arc<[Arc<str>]>,
    expires_s: i64,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// `key`, `platform` or `service`.
    kind: String,
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<TenantId>,
    scopes: Vec<String>,
    iat: i64,
    exp: i64,
}

impl Claims {
    fn is_bare(&self) -> bool {
        self.tenant.is_none() && self.scopes.is_empty()
    }
}

type Trusted = HashMap<String, Signer>;
type SignedKey = (Principal, Option<TenantId>, Arc<[Arc<str>]>, Arc<str>);

struct Signer {
    service: String,
    key: DecodingKey,
}

/// This service's signing key, and the public keys it trusts.
pub struct Identity {
    name: String,
    kid: String,
    public: PublicKey,
    key: EncodingKey,
    trusted: ArcSwap<Trusted>,
    signed: Cache<SignedKey, (HeaderValue, i64)>,
    verified: Cache<HeaderValue, Arc<Verified>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Identity {
    /// A fresh key from the operating system's randomness. It trusts itself until [`Identity::trust`] says more.
    ///
    /// # Errors
    /// When the key can't be encoded, which is a bug.
    pub fn generate(name: &str, clock: Arc<dyn Clock>) -> Result<Self, IdentityError> {
        let mut seed = [0u8; 32];
        rand::rng().fill_bytes(&mut seed);
        Self::from_seed(name, &seed, clock)
    }

    /// The key with this 32-byte seed, so that a service keeps its identity over restarts.
    ///
    /// # Errors
    /// When the key can't be encoded, which is a bug.
    pub fn from_seed(name: &str, seed: &[u8; 32], clock: Arc<dyn Clock>) -> Result<Self, IdentityError> {
        let signing = SigningKey::from_bytes(seed);
        let der = signing.to_pkcs8_der().map_err(|e| IdentityError::Key(e.into()))?;
        let public = PublicKey::of(name, signing.verifying_key().as_bytes());
        let identity = Self {
            name: name.to_owned(),
            kid: public.kid.clone(),
            public: public.clone(),
            key: EncodingKey::from_ed_der(der.as_bytes()),
            trusted: ArcSwap::default(),
            signed: Cache::new(CACHED),
            verified: Cache::new(CACHED),
            clock,
        };
        identity.trust(&[public])?;
        Ok(identity)
    }

    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Replaces the set of services whose tokens are accepted.
    ///
    /// # Errors
    /// When a key is malformed, or two services share one; the old set stays.
    pub fn trust(&self, keys: &[PublicKey]) -> Result<(), IdentityError> {
        let mut trusted: Trusted = HashMap::new();
        for key in keys {
            let decoding = DecodingKey::from_ed_components(&key.x).map_err(IdentityError::Invalid)?;
            let signer = Signer { service: key.service.clone(), key: decoding };
            if let Some(other) = trusted.insert(key.kid.clone(), signer)
                && other.service != key.service
            {
                return Err(IdentityError::Shared(other.service, key.service.clone()));
            }
        }
        self.trusted.store(Arc::new(trusted));
        self.verified.clear();
        Ok(())
    }

    /// By which the service named `audience` knows that this one hands something over: the value of [`INTRODUCTION`].
    ///
    /// # Errors
    /// When it can't be signed, which is a bug.
    pub fn introduction(&self, audience: &str) -> Result<HeaderValue, IdentityError> {
        self.token(&RequestContext::service(&self.name), audience)
    }

    /// Whether the service named `service` introduces itself to this one.
    #[must_use]
    pub fn is_introduced(&self, introduction: Option<&HeaderValue>, service: &str) -> bool {
        let verified = self.verify(introduction);
        verified.is_ok_and(|who| matches!(&who.principal, Principal::Service(name) if **name == *service))
    }

    /// `Bearer …` for a call on behalf of `ctx` to the service named `audience`.
    pub(crate) fn token(&self, ctx: &RequestContext, audience: &str) -> Result<HeaderValue, IdentityError> {
        let now_s = self.clock.now_ms() / 1_000;
        let cached = (ctx.principal.clone(), ctx.tenant, ctx.scopes.clone(), Arc::from(audience));
        if let Some((token, expires_s)) = self.signed.get(&cached)
            && expires_s - now_s > FRESH_S
        {
            return Ok(token);
        }
        let (kind, sub, user) = match &ctx.principal {
            Principal::Key { id, user } => ("key", id.to_string(), *user),
            Principal::Platform => ("platform", "platform".to_owned(), None),
            Principal::Service(name) => ("service", name.to_string(), None),
        };
        let expires_s = now_s + LIFETIME_S;
        let claims = Claims {
            iss: self.name.clone(),
            aud: audience.to_owned(),
            kind: kind.to_owned(),
            sub,
            user,
            tenant: ctx.tenant,
            scopes: ctx.scopes.iter().map(|s| s.to_string()).collect(),
            iat: now_s,
            exp: expires_s,
        };
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let token = jsonwebtoken::encode(&header, &claims, &self.key).map_err(IdentityError::Invalid)?;
        let mut token = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| IdentityError::Malformed("encoding"))?;
        token.set_sensitive(true);
        self.signed.insert(cached, (token.clone(), expires_s));
        Ok(token)
    }

    /// Whom the `authorization` header speaks for, when it is meant for this service.
    pub(crate) fn verify(&self, header: Option<&HeaderValue>) -> Result<Arc<Verified>, IdentityError> {
        let header = header.ok_or(IdentityError::Missing)?;
        let now_s = self.clock.now_ms() / 1_000;
        if let Some(verified) = self.verified.get(header)
            && now_s <= verified.expires_s + SKEW_S
        {
            return Ok(verified);
        }
        let token =
            header.to_str().ok().and_then(|h| h.strip_prefix("Bearer ")).ok_or(IdentityError::Missing)?;
        let kid = jsonwebtoken::decode_header(token).map_err(IdentityError::Invalid)?.kid;
        let trusted = self.trusted.load_full();
        let signer = kid.and_then(|kid| trusted.get(&kid)).ok_or(IdentityError::UnknownSigner)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[&self.name]);
        validation.set_issuer(&[&signer.service]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        // Checked below against the injected clock.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &signer.key, &validation)
            .map_err(IdentityError::Invalid)?
            .claims;
        if now_s > claims.exp + SKEW_S || claims.iat > now_s + SKEW_S || claims.exp - claims.iat > LIFETIME_S
        {
            return Err(IdentityError::Malformed("lifetime"));
        }
        let verified = Arc::new(Verified {
            principal: principal(&claims)?,
            tenant: claims.tenant,
            scopes: claims.scopes.iter().map(|s| Arc::from(s.as_str())).collect(),
            expires_s: claims.exp,
        });
        self.remember(header, &verified, &trusted);
        Ok(verified)
    }

    /// Keeps what was verified against `trusted`, unless that set was replaced meanwhile. Looks after the insertion:
    /// [`Identity::trust`] replaces before it clears, so one of the two sees the other.
    fn remember(&self, header: &HeaderValue, verified: &Arc<Verified>, trusted: &Arc<Trusted>) {
        self.verified.insert(header.clone(), verified.clone());
        if !Arc::ptr_eq(trusted, &self.trusted.load()) {
            self.verified.remove(header);
        }
    }
}

fn principal(claims: &Claims) -> Result<Principal, IdentityError> {
    let for_callers = SPEAK_FOR_CALLERS.contains(&claims.iss.as_str());
    Ok(match claims.kind.as_str() {
        "key" if for_callers => {
            let id: KeyId = claims.sub.parse().map_err(|_| IdentityError::Malformed("subject"))?;
            Principal::Key { id, user: claims.user }
        }
        "platform" if for_callers => Principal::Platform,
        // A service may speak for itself only: being another one is what its key proves. What it may do follows from
        // its name; acting within a tenant or with scopes is for those who heard a caller that has them.
        "service" if claims.sub == claims.iss && (for_callers || claims.is_bare()) => {
            Principal::Service(claims.sub.as_str().into())
        }
        _ => return Err(IdentityError::Malformed("kind")),
    })
}

#[cfg(test)]
mod tests {
    use weir_types::ManualClock;

    use super::*;

    fn pair(clock: &ManualClock) -> (Identity, Identity) {
        let caller = Identity::generate("gateway", Arc::new(clock.clone())).unwrap();
        let callee = Identity::generate("control", Arc::new(clock.clone())).unwrap();
        callee.trust(&[caller.public().clone()]).unwrap();
        (caller, callee)
    }

    fn ctx() -> RequestContext {
        RequestContext {
            principal: Principal::Key { id: KeyId::new(), user: Some(UserId::new()) },
            tenant: Some(TenantId::new()),
            scopes: Arc::from(["chat:write".into()]),
            ..RequestContext::service("gateway")
        }
    }

    #[test]
    fn a_service_introduces_itself_and_nobody_else() {
        let clock = ManualClock::at(1_000_000_000_000);
        let (caller, callee) = pair(&clock);
        let introduction = caller.introduction("control").unwrap();
        assert!(callee.is_introduced(Some(&introduction), "gateway"));
        assert!(!callee.is_introduced(Some(&introduction), "realtime"));
        let (client, elsewhere) =
            (caller.token(&ctx(), "control").unwrap(), caller.introduction("router").unwrap());
        let stranger = Identity::generate("gateway", Arc::new(clock.clone())).unwrap();
        let forged = stranger.introduction("control").unwrap();
        for other in [None, Some(&client), Some(&elsewhere), Some(&forged)] {
            assert!(!callee.is_introduced(other, "gateway"));
        }
        clock.advance(120_000);
        assert!(!callee.is_introduced(Some(&introduction), "gateway"), "too old");
    }

    #[test]
    fn a_token_carries_the_caller_and_is_reused_until_it_ages() {
        let clock = ManualClock::at(1_000_000_000_000);
        let (caller, callee) = pair(&clock);
        let ctx = ctx();
        let token = caller.token(&ctx, "control").unwrap();
        for _ in 0..2 {
            let verified = callee.verify(Some(&token)).unwrap();
            assert_eq!((&verified.principal, verified.tenant), (&ctx.principal, ctx.tenant));
            assert_eq!(verified.scopes, ctx.scopes);
        }
        assert_eq!(caller.token(&ctx, "control").unwrap(), token);
        clock.advance(50_000);
        assert_ne!(caller.token(&ctx, "control").unwrap(), token);
        clock.advance(20_000);
        assert!(callee.verify(Some(&token)).is_err(), "expired, though it was cached as verified");
    }

    #[test]
    fn tokens_for_others_from_strangers_or_altered_are_refused() {
        let clock = ManualClock::at(1_000_000_000_000);
        let (caller, callee) = pair(&clock);
        let other_audience = caller.token(&ctx(), "billing").unwrap();
        assert!(matches!(callee.verify(Some(&other_audience)), Err(IdentityError::Invalid(_))));

        let stranger = Identity::generate("gateway", Arc::new(clock)).unwrap();
        let forged = stranger.token(&ctx(), "control").unwrap();
        assert!(matches!(callee.verify(Some(&forged)), Err(IdentityError::UnknownSigner)));

        let mut altered = caller.token(&ctx(), "control").unwrap().to_str().unwrap().to_owned();
        let last = altered.pop();
        altered.push(if last == Some('A') { 'Q' } else { 'A' });
        let altered = HeaderValue::try_from(altered).unwrap();
        assert!(callee.verify(Some(&altered)).is_err());
        assert!(matches!(callee.verify(None), Err(IdentityError::Missing)));

        let posing = RequestContext::service("billing");
        let posing = caller.token(&posing, "control").unwrap();
        assert!(matches!(callee.verify(Some(&posing)), Err(IdentityError::Malformed("kind"))));
    }

    #[test]
    fn a_service_signs_with_any_of_its_keys_and_with_none_of_another_s() {
        let clock = ManualClock::at(1_000_000_000_000);
        let (old, callee) = pair(&clock);
        let new = Identity::generate("gateway", Arc::new(clock)).unwrap();
        callee.trust(&[old.public().clone(), new.public().clone()]).unwrap();
        for signer in [&old, &new] {
            callee.verify(Some(&signer.token(&ctx(), "control").unwrap())).unwrap();
        }
        let shared = PublicKey { service: "billing".into(), ..old.public().clone() };
        let refused = callee.trust(&[old.public().clone(), shared]).unwrap_err();
        assert!(matches!(refused, IdentityError::Shared(..)), "{refused}");
        assert!(callee.verify(Some(&new.token(&ctx(), "control").unwrap())).is_ok(), "the old set stays");
    }

    #[test]
    fn only_who_sees_credentials_speaks_for_others() {
        let clock = ManualClock::at(1_000_000_000_000);
        let callee = Identity::generate("control", Arc::new(clock.clone())).unwrap();
        let platform = RequestContext { principal: Principal::Platform, ..RequestContext::service("x") };
        let services =
            ["gateway", "realtime", "orchestrator", "router", "analytics", "billing", "ingestion", "control"];
        for (n, name) in services.into_iter().enumerate() {
            let caller = Identity::generate(name, Arc::new(clock.clone())).unwrap();
            callee.trust(&[caller.public().clone()]).unwrap();
            for ctx in [&ctx(), &platform] {
                let verified = callee.verify(Some(&caller.token(ctx, "control").unwrap()));
                match n {
                    0..3 => assert_eq!(verified.unwrap().principal, ctx.principal, "{name}"),
                    _ => assert!(matches!(verified, Err(IdentityError::Malformed("kind"))), "{name}"),
                }
            }
            let (within, scoped) = (
                RequestContext { tenant: Some(TenantId::new()), ..RequestContext::service(name) },
                RequestContext {
                    scopes: Arc::from(["platform:admin".into()]),
                    ..RequestContext::service(name)
                },
            );
            for more in [within, scoped] {
                let verified = callee.verify(Some(&caller.token(&more, "control").unwrap()));
                assert_eq!(verified.is_ok(), n < 3, "{name}");
            }
            let own = caller.token(&RequestContext::service(name), "control").unwrap();
            assert_eq!(callee.verify(Some(&own)).unwrap().principal, Principal::Service(name.into()));
        }
    }

    #[test]
    fn a_signer_removed_while_its_token_is_verified_is_not_remembered() {
        let clock = ManualClock::at(1_000_000_000_000);
        let (caller, callee) = pair(&clock);
        let token = caller.token(&ctx(), "control").unwrap();
        let (verified, before) = (callee.verify(Some(&token)).unwrap(), callee.trusted.load_full());
        callee.trust(&[]).unwrap();
        callee.remember(&token, &verified, &before);
        assert!(matches!(callee.verify(Some(&token)), Err(IdentityError::UnknownSigner)));
    }
}
