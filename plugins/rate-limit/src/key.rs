//! Whose bucket a request takes from.

use std::net::{IpAddr, Ipv6Addr};

use wasmgate_sdk::{Error, HeaderName, Request, Result};

/// The host bounds its keys; what is longer shares a bucket.
const MAX: usize = 700;

pub struct Key {
    by: By,
    ipv6_prefix: u8,
}

enum By {
    Ip,
    Consumer,
    Header(HeaderName),
    Route,
    Path,
    Const,
}

impl Key {
    pub fn parse(text: &str, ipv6_prefix: u8) -> Result<Self> {
        if ipv6_prefix > 128 {
            return Err(Error::msg("ipv6_prefix: must be at most 128"));
        }
        let by = match text {
            "ip" => By::Ip,
            "consumer" => By::Consumer,
            "route" => By::Route,
            "path" => By::Path,
            "const" => By::Const,
            other => match other.strip_prefix("header:") {
                Some(name) => By::Header(
                    HeaderName::new(name).map_err(|error| Error::msg(format_args!("key: {error}")))?,
                ),
                None => {
                    let known = "ip, consumer, route, path, const or header:NAME";
                    return Err(Error::msg(format_args!("key: {other:?} is not one of {known}")));
                }
            },
        };
        Ok(Key { by, ipv6_prefix })
    }

    /// The kind stands in front, so that a header cannot name somebody's address.
    pub fn of(&self, request: &Request) -> String {
        let named = match &self.by {
            By::Ip => None,
            By::Consumer => request.var_str("consumer").map(|name| format!("consumer:{name}")),
            By::Header(name) => request.header(name).map(|value| format!("header:{}", hex(&value))),
            By::Route => Some(format!("route:{}", request.route())),
            By::Path => Some(format!("path:{}", request.path())),
            By::Const => Some("const".to_string()),
        };
        let mut key = named.unwrap_or_else(|| format!("ip:{}", self.network(&request.client().ip)));
        key.truncate(key.floor_char_boundary(MAX));
        key
    }

    /// An IPv6 client has a whole network to choose addresses from.
    fn network(&self, ip: &str) -> String {
        match ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(IpAddr::V6(v6)) => {
                let ignored = 128 - u32::from(self.ipv6_prefix);
                let bits = v6.to_bits().checked_shr(ignored).unwrap_or(0);
                Ipv6Addr::from_bits(bits.checked_shl(ignored).unwrap_or(0)).to_string()
            }
            Ok(IpAddr::V4(v4)) => v4.to_string(),
            Err(_) => ip.to_string(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(MAX / 2).map(|byte| format!("{byte:02x}")).collect()
}
