//! Bounds on questions to the control plane, so that a flood of unknown keys reaches neither it nor the database.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use weir_error::{Code, Error};

use crate::{Config, limit::Bucket};

const MAX_ADDRESSES: usize = 20_000;

/// One bucket for all questions, one per address for keys that turn out not to exist.
#[derive(Debug)]
pub(crate) struct Gate {
    all: Mutex<Bucket>,
    addresses: Cache<IpAddr, Arc<Mutex<Bucket>>>,
    /// Zero: no limit.
    per_address: u64,
}

/// One question that was let through.
#[derive(Debug)]
pub(crate) struct Pass(Option<Arc<Mutex<Bucket>>>);

impl Gate {
    pub(crate) fn new(config: &Config, now: u64) -> Self {
        let per_minute = config.lookups_per_second.saturating_mul(60);
        Self {
            all: Mutex::new(Bucket::full(per_minute, config.lookups_per_second.saturating_mul(2), now)),
            addresses: Cache::new(MAX_ADDRESSES),
            per_address: config.unknown_keys_per_address,
        }
    }

    /// # Errors
    /// `RateLimited` for an address that tried too many unknown keys, `Overloaded` when everybody asks too much.
    pub(crate) fn pass(&self, address: Option<IpAddr>, now: u64) -> Result<Pass, Error> {
        let own = address.filter(|_| self.per_address > 0).map(|address| self.bucket(address, now));
        if let Some(own) = &own {
            take(own, now).map_err(|wait| {
                Error::new(Code::RateLimited, "too many API keys were tried from this address")
                    .with_retry_after(wait)
            })?;
        }
        let pass = Pass(own);
        if let Err(wait) = take(&self.all, now) {
            pass.refund();
            return Err(
                Error::new(Code::Overloaded, "too many API keys are being checked").with_retry_after(wait)
            );
        }
        Ok(pass)
    }

    fn bucket(&self, address: IpAddr, now: u64) -> Arc<Mutex<Bucket>> {
        let network = network(address);
        if let Some(bucket) = self.addresses.get(&network) {
            return bucket;
        }
        let bucket = Arc::new(Mutex::new(Bucket::full(self.per_address, self.per_address, now)));
        self.addresses.insert(network, bucket.clone());
        bucket
    }
}

impl Pass {
    /// The key exists, or nobody could say: the address is not charged.
    pub(crate) fn refund(self) {
        if let Some(bucket) = self.0 {
            bucket.lock().give(1);
        }
    }
}

fn take(bucket: &Mutex<Bucket>, now: u64) -> Result<(), Duration> {
    let mut bucket = bucket.lock();
    bucket.refill(now);
    match bucket.wait(1) {
        Some(Duration::ZERO) => {
            bucket.take(1);
            Ok(())
        }
        wait => Err(wait.unwrap_or(Duration::from_secs(60))),
    }
}

/// What one party surely has to itself: an IPv4 address, an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[4..].fill(0);
            IpAddr::V6(Ipv6Addr::from(segments))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(lookups_per_second: u64, unknown_keys_per_address: u64) -> Gate {
        Gate::new(&Config { lookups_per_second, unknown_keys_per_address, ..Config::default() }, 0)
    }

    #[test]
    fn an_address_runs_dry_alone_and_refunds_count() {
        let gate = gate(1_000, 2);
        let (one, other) = ("10.0.0.1".parse().ok(), "10.0.0.2".parse().ok());
        gate.pass(one, 0).unwrap().refund();
        gate.pass(one, 0).unwrap();
        gate.pass(one, 0).unwrap();
        let refused = gate.pass(one, 0).unwrap_err();
        assert_eq!(
            (refused.code(), refused.retry_after()),
            (Code::RateLimited, Some(Duration::from_secs(30)))
        );
        assert!(gate.pass(other, 0).is_ok());
        assert!(gate.pass(one, 30_000_000_000).is_ok());
    }

    #[test]
    fn zero_is_no_limit_for_an_address() {
        let gate = gate(1_000, 0);
        for _ in 0..1_000 {
            gate.pass("10.0.0.1".parse().ok(), 0).unwrap();
        }
        assert_eq!(gate.addresses.len(), 0);
    }

    #[test]
    fn neighbours_in_a_64_share_and_mapped_addresses_are_version_4() {
        let gate = gate(1_000, 1);
        gate.pass("2001:db8::1".parse().ok(), 0).unwrap();
        assert!(gate.pass("2001:db8::2".parse().ok(), 0).is_err());
        assert!(gate.pass("2001:db8:0:1::1".parse().ok(), 0).is_ok());
        gate.pass("::ffff:10.0.0.1".parse().ok(), 0).unwrap();
        assert!(gate.pass("10.0.0.1".parse().ok(), 0).is_err());
        assert!(gate.pass("::ffff:10.0.0.2".parse().ok(), 0).is_ok());
    }

    #[test]
    fn all_together_are_bounded_and_a_refusal_is_not_charged_to_the_address() {
        let gate = gate(1, 3);
        let one: Option<IpAddr> = "10.0.0.1".parse().ok();
        gate.pass(None, 0).unwrap();
        gate.pass(None, 0).unwrap();
        for _ in 0..9 {
            assert_eq!(gate.pass(one, 0).unwrap_err().code(), Code::Overloaded);
        }
    }
}
