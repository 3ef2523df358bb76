//! Opaque state of models' turns, for clients that drop it: kept by whose the turn is, by the conversation before it and
//! by what it said, and given back when it returns without it to the same caller's same conversation.
//!
//! What leaves this process is a ciphertext under a name that tells nothing: both come from all of these, which the store
//! never sees. Whoever has them can open it, and nobody else.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use quick_cache::{Weighter, sync::Cache};
use ring::{hmac, rand::SystemRandom};
use weir_kv::{Key, Kv};
use weir_llm::{
    canonical::{Message, Part, Request, Role, Vendor},
    turn::{self, Before, Fingerprint},
};
use weir_types::{Clock, KeyId, RequestContext, TenantId, UserId};

use super::{
    cipher::{self, SecretKey},
    heavy,
};
use crate::metrics::VaultMetrics;

const AREA: &str = "turn";
/// A turn's state that is longer is not kept.
const MAX_STATE: usize = 256 * 1024;
/// Turns of one request that are looked for, from the last one back.
const MAX_TURNS: usize = 32;
/// Messages whose reading takes another thread.
const MANY: usize = 256;
/// How long it is known that nothing is known of a turn.
const MISS_MS: i64 = 60_000;

#[derive(Clone)]
pub(crate) struct Vault(Option<Arc<Inner>>);

struct Inner {
    kv: Kv,
    near: Cache<Near, Entry, Weight>,
    random: SystemRandom,
    ttl: Duration,
    clock: Arc<dyn Clock>,
    metrics: VaultMetrics,
}

type Near = (TenantId, Fingerprint);

/// A turn's state, or that there is none.
#[derive(Clone)]
struct Entry {
    state: Option<Bytes>,
    until_ms: i64,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Near, Entry> for Weight {
    fn weight(&self, _: &Near, entry: &Entry) -> u64 {
        128 + entry.state.as_ref().map_or(0, Bytes::len) as u64
    }
}

/// Whose turns they are: no key or user ever gets another's.
#[derive(Clone)]
pub(crate) struct Owner {
    tenant: TenantId,
    key: Option<KeyId>,
    user: Option<UserId>,
}

impl Owner {
    /// Nothing is kept for those without a tenant.
    pub(crate) fn of(ctx: &RequestContext) -> Option<Self> {
        Some(Self { tenant: ctx.tenant?, key: ctx.key(), user: ctx.user() })
    }

    fn caller(&self) -> String {
        let (key, user) = (self.key.map(|key| key.to_string()), self.user.map(|user| user.to_string()));
        format!("{}/{}", key.unwrap_or_default(), user.unwrap_or_default())
    }

    /// The conversation that these messages are.
    pub(crate) fn conversation(&self, messages: &[Message]) -> Before {
        Before::all(&self.caller(), messages)
    }
}

/// A turn of a request that gets its state back.
pub(crate) struct Found {
    /// Its place among the messages.
    at: usize,
    state: Bytes,
}

impl Vault {
    /// One that keeps nothing.
    #[cfg(test)]
    pub(crate) fn off() -> Self {
        Self(None)
    }

    pub(crate) fn new(
        kv: Kv,
        bytes: u64,
        ttl: Duration,
        clock: Arc<dyn Clock>,
        metrics: VaultMetrics,
    ) -> Self {
        if ttl.is_zero() {
            return Self(None);
        }
        let near = Cache::with_weighter(usize::try_from(bytes / 4_096).unwrap_or(1_024), bytes, Weight);
        Self(Some(Arc::new(Inner { kv, near, random: SystemRandom::new(), ttl, clock, metrics })))
    }

    /// Keeps the state of a turn that follows these, if it has any and says something by which it is known again.
    pub(crate) async fn keep(&self, owner: &Owner, before: &Before, parts: &[Part]) {
        let Some(inner) = &self.0 else { return };
        let (Some(state), Some(of)) = (turn::state(parts), before.turn(parts)) else { return };
        let tenant = owner.tenant;
        if state.len() > MAX_STATE {
            return inner.metrics.too_long();
        }
        let until_ms = inner.clock.now_ms() + i64::try_from(inner.ttl.as_millis()).unwrap_or(i64::MAX / 2);
        let entry = Entry { state: Some(state.clone().into()), until_ms };
        inner.near.insert((tenant, of), entry);
        let (key, seal) = secrets(tenant, &of);
        // The same turn may be kept twice, with other state.
        if let Some(sealed) = cipher::seal(&inner.random, &seal, &[], state) {
            inner.kv.set(&Key::tenant(tenant, AREA, key), sealed, inner.ttl).await;
        }
        inner.metrics.kept();
    }

    /// What is kept of this request's turns that came back without their state.
    pub(crate) async fn find(&self, owner: &Owner, messages: &[Message]) -> Vec<Found> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let turns = if messages.len() > MANY {
            heavy::apart(|| bare_turns(owner, messages))
        } else {
            bare_turns(owner, messages)
        };
        let found = turns.into_iter().map(|(at, of)| async move {
            let state = inner.find(owner.tenant, of).await?;
            Some(Found { at, state })
        });
        join_all(found).await.into_iter().flatten().collect()
    }
}

/// The last turns of the model that came without state, and by what each is known.
fn bare_turns(owner: &Owner, messages: &[Message]) -> Vec<(usize, Fingerprint)> {
    let bare = |message: &Message| message.role == Role::Assistant && turn::is_bare(&message.parts);
    let places = messages.iter().enumerate().filter(|(_, message)| bare(message)).map(|(at, _)| at);
    let places: Vec<usize> = places.collect();
    if places.is_empty() {
        return Vec::new();
    }
    let looked_for = places.iter().skip(places.len().saturating_sub(MAX_TURNS));
    let (mut before, mut seen) = (owner.conversation(&[]), 0);
    let turn = |&at: &usize| {
        messages.get(seen..at)?.iter().for_each(|message| before.see(message));
        seen = at;
        Some((at, before.turn(&messages.get(at)?.parts)?))
    };
    looked_for.filter_map(turn).collect()
}

/// The request with what was found of this vendor's, if there was any.
pub(crate) fn restored(request: &Request, found: &[Found], vendor: Vendor) -> Option<Request> {
    if found.is_empty() {
        return None;
    }
    let mut request = request.clone();
    let mut any = false;
    for Found { at, state } in found {
        if let Some(message) = request.messages.get_mut(*at) {
            any |= turn::restore(&mut message.parts, state, vendor);
        }
    }
    any.then_some(request)
}

/// The messages that get state back, whosever it is, by their places.
pub(crate) fn restored_all(request: &Request, found: &[Found]) -> Vec<(usize, Message)> {
    let back = found.iter().filter_map(|Found { at, state }| {
        let mut message = request.messages.get(*at)?.clone();
        let mut any = false;
        for vendor in Vendor::ALL {
            any |= turn::restore(&mut message.parts, state, vendor);
        }
        any.then_some((*at, message))
    });
    back.collect()
}

impl Inner {
    async fn find(&self, tenant: TenantId, of: Fingerprint) -> Option<Bytes> {
        let now_ms = self.clock.now_ms();
        if let Some(entry) = self.near.get(&(tenant, of)).filter(|entry| entry.until_ms > now_ms) {
            self.metrics.asked(entry.state.is_some());
            return entry.state;
        }
        let (key, seal) = secrets(tenant, &of);
        let sealed = self.kv.get(&Key::tenant(tenant, AREA, key)).await;
        let state: Option<Bytes> =
            sealed.and_then(|sealed| cipher::open(&seal, &[], &sealed)).map(Into::into);
        // Kept meanwhile, perhaps, by another of the turn's requests.
        let meanwhile = || self.near.get(&(tenant, of)).and_then(|entry| entry.state);
        if let Some(state) = state.is_none().then(meanwhile).flatten() {
            self.metrics.asked(true);
            return Some(state);
        }
        self.metrics.asked(state.is_some());
        self.near.insert((tenant, of), Entry { state: state.clone(), until_ms: now_ms + MISS_MS });
        state
    }
}

/// The name that a turn's state has, and the key that it is under.
fn secrets(tenant: TenantId, of: &Fingerprint) -> (String, SecretKey) {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, of);
    let derive = |what: &str| hmac::sign(&secret, format!("weir turn {what} {tenant}").as_bytes());
    let name: String = derive("name").as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut key = [0; 32];
    key.copy_from_slice(derive("key").as_ref());
    (name, key)
}

#[cfg(test)]
mod tests {
    use weir_llm::canonical::{Content, Opaque, ToolUse};
    use weir_telemetry::Metrics as Registry;
    use weir_types::SystemClock;

    use super::*;

    fn vault(kv: Kv) -> Vault {
        let metrics = VaultMetrics::new(&Registry::new());
        Vault::new(kv, 1 << 20, Duration::from_secs(60), Arc::new(SystemClock), metrics)
    }

    fn said() -> Vec<Part> {
        let call = ToolUse { id: "call_0".to_owned(), name: "f".to_owned(), arguments: "{}".to_owned() };
        vec![Part::text("ok"), Content::ToolUse(call).into()]
    }

    fn turn() -> Vec<Part> {
        let thought = Part::from(Content::Thinking("a secret thought".to_owned()));
        let mut parts = vec![thought.with_opaque(Some(Opaque::new(Vendor::Anthropic, "signature")))];
        parts.extend(said());
        parts
    }

    fn asked() -> Request {
        let messages = vec![
            Message { role: Role::User, parts: vec![Part::text("x")] },
            Message { role: Role::Assistant, parts: said() },
        ];
        Request { messages, ..Request::default() }
    }

    fn owner() -> Owner {
        Owner { tenant: TenantId::new(), key: Some(KeyId::new()), user: Some(UserId::new()) }
    }

    async fn kept(kv: Kv, owner: &Owner) {
        let before = owner.conversation(&asked().messages[..1]);
        vault(kv).keep(owner, &before, &turn()).await;
    }

    #[tokio::test]
    async fn a_turn_gets_its_state_back_also_elsewhere_and_never_another_s() {
        let (kv, owner) = (Kv::memory(), owner());
        kept(kv.clone(), &owner).await;
        // Another instance, with the same store.
        let elsewhere = vault(kv);
        let request = asked();
        let found = elsewhere.find(&owner, &request.messages).await;
        let back = restored(&request, &found, Vendor::Anthropic).unwrap();
        assert_eq!(back.messages[1].parts[0].opaque.as_ref().unwrap().data, "signature");
        assert!(restored(&request, &found, Vendor::Google).is_none());
        let tenants = Owner { tenant: TenantId::new(), ..owner.clone() };
        let keys = Owner { key: Some(KeyId::new()), ..owner.clone() };
        let users = Owner { user: Some(UserId::new()), ..owner.clone() };
        for stranger in [tenants, keys, users] {
            assert!(elsewhere.find(&stranger, &request.messages).await.is_empty());
        }
        let mut other = request.clone();
        other.messages[0].parts = vec![Part::text("another question")];
        assert!(elsewhere.find(&owner, &other.messages).await.is_empty());
        assert!(Vault::off().find(&owner, &request.messages).await.is_empty());
    }

    #[test]
    fn the_last_turns_are_looked_for_and_known_by_all_before_them() {
        let said = |role, n: usize| Message { role, parts: vec![Part::text(n.to_string())] };
        let messages: Vec<_> =
            (0..100).flat_map(|n| [said(Role::User, n), said(Role::Assistant, n)]).collect();
        let owner = owner();
        let turns = bare_turns(&owner, &messages);
        assert_eq!((turns.len(), turns.last().unwrap().0), (MAX_TURNS, 199));
        for (at, of) in turns {
            let known = owner.conversation(&messages[..at]).turn(&messages[at].parts);
            assert_eq!(known, Some(of));
        }
    }

    #[tokio::test]
    async fn the_store_sees_neither_state_nor_turn() {
        let (kv, owner) = (Kv::memory(), owner());
        kept(kv.clone(), &owner).await;
        let (tenant, before) = (owner.tenant, owner.conversation(&asked().messages[..1]));
        let of = before.turn(&turn()).unwrap();
        let (name, key) = secrets(tenant, &of);
        let sealed = kv.get(&Key::tenant(tenant, AREA, name)).await.unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret" || w == b"signat"));
        assert!(cipher::open(&key, &[], &sealed).is_some());
        assert!(cipher::open(&secrets(TenantId::new(), &of).1, &[], &sealed).is_none());
    }
}
