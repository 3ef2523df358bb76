//! The section `control`.

use serde::Deserialize;
use weir_error::Error;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// SHA-256 of the platform operator's key (`pk_admin_…`), in hex. Unset: there is no platform key.
    pub admin_key_sha256: Option<String>,
    /// API keys that a tenant may have: those that are good, and those revoked within a day, as gateways are told of
    /// these through a bucket of bounded size that all tenants share.
    pub max_keys_per_tenant: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { admin_key_sha256: None, max_keys_per_tenant: 10_000 }
    }
}

impl Config {
    pub(crate) fn admin_key(self) -> Result<Option<[u8; 32]>, Error> {
        let Some(text) = self.admin_key_sha256.filter(|t| !t.is_empty()) else { return Ok(None) };
        let digit = |b: u8| char::from(b).to_digit(16);
        let bytes: Option<Vec<u8>> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
                _ => None,
            })
            .collect();
        match bytes.and_then(|b| <[u8; 32]>::try_from(b).ok()) {
            Some(hash) => Ok(Some(hash)),
            None => Err(Error::invalid(
                "control.admin_key_sha256",
                "control.admin_key_sha256 must be the 64 hex digits of a SHA-256",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_read_or_named() {
        let read =
            |text: &str| Config { admin_key_sha256: Some(text.into()), ..Config::default() }.admin_key();
        assert_eq!(read(&"0aF1".repeat(16)).unwrap(), Some([0x0a, 0xf1].repeat(16).try_into().unwrap()));
        assert_eq!(read("").unwrap(), None);
        assert_eq!(Config::default().admin_key().unwrap(), None);
        for bad in ["x", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64), &"ä".repeat(32)] {
            assert_eq!(read(bad).unwrap_err().param(), Some("control.admin_key_sha256"), "{bad}");
        }
    }
}
