//! Who asks when a proxy stands in between: `X-Forwarded-For`, believed from trusted proxies only.

use std::{net::IpAddr, str::FromStr};

use http::{Extensions, HeaderMap, HeaderName};
use serde::Deserialize;

use crate::PeerAddr;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// An address, or a network as in `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that names no [`Network`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an address nor a network such as 10.0.0.0/8")]
pub struct NotANetwork(String);

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let parse = || {
            let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
            let address: IpAddr = address.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.map_or(Some(bits), |p| p.parse().ok())?;
            (prefix <= bits).then_some(Self { address, prefix })
        };
        parse().ok_or_else(|| NotANetwork(text.to_owned()))
    }
}

impl TryFrom<String> for Network {
    type Error = NotANetwork;

    fn try_from(text: String) -> Result<Self, NotANetwork> {
        text.parse()
    }
}

impl Network {
    fn contains(&self, other: IpAddr) -> bool {
        let prefix = u32::from(self.prefix);
        match (self.address, other.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// What a trusted proxy says of whom it serves. An extension of such requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddr(IpAddr);

impl ClientAddr {
    /// Proxies append: the last address that no trusted proxy has is the client's, what is before it anyone may
    /// have written. `None` when the peer speaks for itself.
    pub(crate) fn find(trusted: &[Network], peer: IpAddr, headers: &HeaderMap) -> Option<Self> {
        let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
        if !is_trusted(peer) {
            return None;
        }
        let mut found = None;
        for value in headers.get_all(FORWARDED_FOR).iter().rev() {
            let Ok(value) = value.to_str() else { return found };
            for address in value.rsplit(',') {
                let Ok(address) = address.trim().parse::<IpAddr>() else { return found };
                found = Some(Self(address));
                if !is_trusted(address) {
                    return found;
                }
            }
        }
        found
    }
}

/// The client's address: as a trusted proxy has it, else the peer's.
#[must_use]
pub fn client_ip(extensions: &Extensions) -> Option<IpAddr> {
    let client = extensions.get::<ClientAddr>().map(|client| client.0);
    client.or_else(|| extensions.get::<PeerAddr>().map(|peer| peer.0.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(peer: &str, forwarded: &[&'static str]) -> Option<String> {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "192.0.2.7", "fd00::/8"].iter().map(|n| n.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, http::HeaderValue::from_static(value));
        }
        let found = ClientAddr::find(&trusted, peer.parse().unwrap(), &headers);
        found.map(|client| client.0.to_string())
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_their_own_words() {
        let is = |address: &str| Some(address.to_owned());
        assert_eq!(find("192.0.2.8", &["198.51.100.1"]), None);
        assert_eq!(find("192.0.2.7", &["198.51.100.1"]), is("198.51.100.1"));
        assert_eq!(find("::ffff:10.1.2.3", &["1.1.1.1, 198.51.100.1"]), is("198.51.100.1"));
        assert_eq!(find("fd12::1", &["1.1.1.1", "198.51.100.1, 10.9.9.9"]), is("198.51.100.1"));
        assert_eq!(find("10.0.0.1", &["198.51.100.1, what, 10.9.9.9"]), is("10.9.9.9"));
        assert_eq!(find("10.0.0.1", &["unknown"]), None);
        assert_eq!(find("10.0.0.1", &[]), None);
    }

    #[test]
    fn networks_are_read_strictly() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "x/8"] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork(text.to_owned())));
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains(IpAddr::from([8, 8, 8, 8])) && !all.contains("::1".parse().unwrap()));
    }
}
