//! The names there are, in layers: a tenant's, the platform's, the settings'. A snapshot that decisions read without
//! a lock and pushes replace.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use uuid::Uuid;
use weir_error::Error;
use weir_proto::router::{AliasSet, Name};
use weir_types::TenantId;

use crate::{
    AliasTarget, Config,
    app::{AUTO, Decision, ReasonKind},
    config::fits,
};

/// The platform's own aliases are kept as this tenant's.
pub(crate) const PLATFORM: TenantId = TenantId(Uuid::nil());
/// A set of so many aliases fits into one pushed value, however long its names are.
pub(crate) const MAX_ALIASES: usize = 100;
/// Tenants with aliases of their own that one router keeps.
const MAX_TENANTS: usize = 100_000;
/// Nobody needs longer chains, and this ends those that go round.
const MAX_STEPS: usize = 16;

/// One tenant's aliases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Set {
    pub(crate) version: u64,
    pub(crate) aliases: HashMap<String, AliasTarget>,
}

#[derive(Debug)]
pub(crate) struct Catalogue {
    config: Config,
    sets: ArcSwap<HashMap<TenantId, Arc<Set>>>,
    /// One writer at a time.
    writing: Mutex<()>,
}

/// Why a name leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle(Vec<String>);

impl From<Circle> for Error {
    fn from(circle: Circle) -> Self {
        Self::invalid("model", format!("a circle of aliases: {}", circle.0.join(" → ")))
    }
}

impl Catalogue {
    /// The settings must have been checked.
    pub(crate) fn new(config: Config) -> Self {
        Self { config, sets: ArcSwap::default(), writing: Mutex::default() }
    }

    /// Takes over sets that are newer than what is known. Says how many were left out because there are too many.
    pub(crate) fn apply(&self, sets: impl IntoIterator<Item = (TenantId, Set)>) -> usize {
        let _writing = self.writing.lock();
        let known = self.sets.load();
        let is_newer = |(tenant, set): &(TenantId, Set)| {
            known.get(tenant).is_none_or(|known| known.version < set.version)
        };
        let mut newer = sets.into_iter().filter(is_newer).peekable();
        if newer.peek().is_none() {
            return 0;
        }
        let mut all = HashMap::clone(&known);
        let mut left_out = 0;
        for (tenant, set) in newer {
            let known = all.get(&tenant);
            // One tenant may be among them twice.
            if known.is_some_and(|known| known.version >= set.version) {
                continue;
            }
            if known.is_none() && all.len() >= MAX_TENANTS && tenant != PLATFORM {
                left_out += 1;
                continue;
            }
            all.insert(tenant, Arc::new(set));
        }
        self.sets.store(Arc::new(all));
        left_out
    }

    /// What the name stands for with this tenant.
    pub(crate) fn decide(&self, tenant: Option<TenantId>, name: &str) -> Result<Decision, Circle> {
        let sets = self.sets.load();
        self.follow(tenant.and_then(|t| sets.get(&t)).map(|s| &**s), sets.get(&PLATFORM).map(|s| &**s), name)
    }

    /// As [`decide`](Self::decide), were the tenant's aliases these.
    pub(crate) fn would_decide(&self, tenant: TenantId, set: &Set, name: &str) -> Result<Decision, Circle> {
        let sets = self.sets.load();
        if tenant == PLATFORM {
            return self.follow(None, Some(set), name);
        }
        self.follow(Some(set), sets.get(&PLATFORM).map(|s| &**s), name)
    }

    /// What this tenant's requests may name, the nearest layer's meaning of each.
    pub(crate) fn names(&self, tenant: Option<TenantId>) -> Vec<Name> {
        let sets = self.sets.load();
        let own = tenant.and_then(|tenant| sets.get(&tenant)).map(|set| (&set.aliases, "tenant-alias"));
        let platform = sets.get(&PLATFORM).map(|set| (&set.aliases, "platform-alias"));
        let auto = AliasTarget::model(&self.config.default_model);
        let mut names = BTreeMap::from([(AUTO, (&auto, "router"))]);
        names.extend(self.config.aliases.iter().map(|(name, target)| (name.as_str(), (target, "alias"))));
        for (aliases, kind) in [platform, own].into_iter().flatten() {
            names.extend(aliases.iter().map(|(name, target)| (name.as_str(), (target, kind))));
        }
        let name = |(name, (target, kind)): (&str, (&AliasTarget, &str))| Name {
            name: name.to_owned(),
            model: target.model.clone(),
            kind: kind.to_owned(),
        };
        names.into_iter().map(name).collect()
    }

    /// What is known of the tenant's aliases.
    pub(crate) fn set(&self, tenant: TenantId) -> Set {
        self.sets.load().get(&tenant).map(|set| Set::clone(set)).unwrap_or_default()
    }

    fn follow(&self, own: Option<&Set>, platform: Option<&Set>, start: &str) -> Result<Decision, Circle> {
        let of_set = |set: Option<&'_ Set>, name: &str| set.and_then(|s| s.aliases.get(name).cloned());
        let (mut path, mut reasons) = (vec![start.to_owned()], Vec::new());
        let mut name = start.to_owned();
        loop {
            let target = if let Some(target) = of_set(own, &name) {
                reasons.push(format!("tenant's alias {name}"));
                target
            } else if let Some(target) = of_set(platform, &name) {
                reasons.push(format!("platform's alias {name}"));
                target
            } else if name == AUTO {
                reasons.push("auto: default model".to_owned());
                AliasTarget::model(&self.config.default_model)
            } else if let Some(target) = self.config.aliases.get(&name) {
                reasons.push(format!("alias {name}"));
                target.clone()
            } else {
                return Ok(decided(start, name, None, reasons));
            };
            if target.provider.is_some() {
                return Ok(decided(start, target.model, target.provider, reasons));
            }
            let seen = path.contains(&target.model);
            path.push(target.model.clone());
            if seen || path.len() > MAX_STEPS {
                return Err(Circle(path));
            }
            name = target.model;
        }
    }
}

fn decided(start: &str, model: String, provider: Option<String>, mut reasons: Vec<String>) -> Decision {
    let kind = match reasons.len() {
        _ if start == AUTO => ReasonKind::Auto,
        0 => ReasonKind::Named,
        _ => ReasonKind::Alias,
    };
    if reasons.is_empty() {
        reasons.push("named outright".to_owned());
    }
    Decision { model, provider, reasons, kind }
}

/// A pushed set. `None`: it makes no sense.
pub(crate) fn read(set: AliasSet) -> Option<(TenantId, Set)> {
    let tenant: TenantId = set.tenant_id.parse().ok()?;
    if set.version == 0 || set.aliases.len() > MAX_ALIASES {
        return None;
    }
    let mut aliases = HashMap::with_capacity(set.aliases.len());
    for alias in set.aliases {
        let provider = Some(alias.provider).filter(|p| !p.is_empty());
        if !fits(&alias.name) || !fits(&alias.model) || provider.as_deref().is_some_and(|p| !fits(p)) {
            return None;
        }
        aliases.insert(alias.name, AliasTarget { model: alias.model, provider });
    }
    Some((tenant, Set { version: set.version, aliases }))
}

#[cfg(test)]
mod tests {
    use weir_proto::router::Alias;

    use super::*;

    fn set(version: u64, aliases: &[(&str, &str)]) -> Set {
        let aliases = aliases.iter().map(|(n, m)| ((*n).to_owned(), AliasTarget::model(m))).collect();
        Set { version, aliases }
    }

    fn model(catalogue: &Catalogue, tenant: Option<TenantId>, name: &str) -> String {
        catalogue.decide(tenant, name).unwrap().model
    }

    #[test]
    fn a_tenants_names_come_before_the_platforms_and_those_before_the_settings() {
        let catalogue = Catalogue::new(Config::default());
        let (one, other) = (TenantId::new(), TenantId::new());
        catalogue.apply([
            (PLATFORM, set(1, &[("smart-model", "p"), ("best", "smart-model"), ("auto", "best")])),
            (one, set(1, &[("smart-model", "own"), ("p", "private")])),
        ]);
        assert_eq!(model(&catalogue, Some(one), "smart-model"), "own");
        assert_eq!(model(&catalogue, Some(one), "auto"), "own", "a chain starts anew with every step");
        assert_eq!(model(&catalogue, Some(other), "smart-model"), "p");
        assert_eq!(model(&catalogue, None, "auto"), "p");
        assert_eq!(model(&catalogue, Some(one), "fast-model"), "gpt-4o-mini");
        assert_eq!(model(&catalogue, Some(one), "p"), "private");
        assert_eq!(model(&catalogue, Some(other), "anything"), "anything");
        let named = |tenant| -> Vec<_> {
            let names = catalogue.names(Some(tenant)).into_iter();
            names
                .map(|n| (n.name, n.model, n.kind))
                .filter(|n| ["p", "smart-model"].contains(&&*n.0))
                .collect()
        };
        let name = |n: &str, m: &str, k: &str| (n.to_owned(), m.to_owned(), k.to_owned());
        assert_eq!(named(other), [name("smart-model", "p", "platform-alias")]);
        let own = [name("p", "private", "tenant-alias"), name("smart-model", "own", "tenant-alias")];
        assert_eq!(named(one), own);
        let reasons = catalogue.decide(Some(one), "auto").unwrap().reasons;
        assert_eq!(reasons, ["platform's alias auto", "platform's alias best", "tenant's alias smart-model"]);
    }

    #[test]
    fn the_later_version_holds_and_an_empty_one_takes_everything_back() {
        let catalogue = Catalogue::new(Config::default());
        let tenant = TenantId::new();
        catalogue.apply([(tenant, set(2, &[("a", "two")])), (tenant, set(1, &[("a", "one")]))]);
        assert_eq!(model(&catalogue, Some(tenant), "a"), "two");
        catalogue.apply([(tenant, set(3, &[]))]);
        assert_eq!(model(&catalogue, Some(tenant), "a"), "a");
        assert_eq!(catalogue.set(tenant).version, 3);
    }

    #[test]
    fn circles_and_endless_chains_are_refused_where_they_are_met() {
        let catalogue = Catalogue::new(Config::default());
        let tenant = TenantId::new();
        // Each layer by itself is sound.
        catalogue.apply([(PLATFORM, set(1, &[("a", "b")])), (tenant, set(1, &[("b", "a"), ("c", "d")]))]);
        let circle = catalogue.decide(Some(tenant), "a").unwrap_err();
        assert_eq!(Error::from(circle).message(), "a circle of aliases: a → b → a");
        assert_eq!(model(&catalogue, Some(tenant), "c"), "d");
        assert_eq!(model(&catalogue, None, "a"), "b");
        assert!(catalogue.would_decide(PLATFORM, &set(2, &[("x", "x")]), "x").is_err());
        let names: Vec<String> = (0..40).map(|n| format!("n{n}")).collect();
        let long: Vec<_> = names.windows(2).map(|w| (w[0].as_str(), w[1].as_str())).collect();
        assert!(catalogue.would_decide(tenant, &set(2, &long), "n0").is_err());
        assert!(catalogue.would_decide(tenant, &set(2, &long), "n30").is_ok());
    }

    #[test]
    fn pushed_sets_are_read_with_care() {
        let alias =
            |name: &str, model: &str| Alias { name: name.into(), model: model.into(), ..Alias::default() };
        let good =
            AliasSet { tenant_id: TenantId::new().to_string(), version: 1, aliases: vec![alias("a", "b")] };
        assert!(read(good.clone()).is_some());
        for bad in [
            AliasSet { tenant_id: "acme".into(), ..good.clone() },
            AliasSet { version: 0, ..good.clone() },
            AliasSet { aliases: vec![alias("", "b")], ..good.clone() },
            AliasSet { aliases: vec![alias("a", &"x".repeat(257))], ..good.clone() },
            AliasSet { aliases: vec![alias("a", "b"); MAX_ALIASES + 1], ..good },
        ] {
            assert_eq!(read(bad), None);
        }
    }
}
