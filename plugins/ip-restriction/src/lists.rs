//! What an address is looked up in: entries of the plugin's config, and sets of the gateway's.

use std::{net::IpAddr, time::Duration};

use wasmgate_networks::{Entry, Network, NetworkSet};
use wasmgate_sdk::{Error, HostError, Result, counters, log, networks};

pub struct Lists {
    key: &'static str,
    own: NetworkSet,
    named: Vec<String>,
}

/// A warning is written once in this time, and not by every instance.
const ONCE_IN: Duration = Duration::from_secs(24 * 60 * 60);

impl Lists {
    /// Errors name the key of the config and the entry.
    pub fn new(key: &'static str, own: &[String], named: Vec<String>) -> Result<Self> {
        let own = own.iter().enumerate().map(|(place, text)| read(key, place, text));
        let own: Vec<Network> = own.collect::<Result<_>>()?;
        for (place, name) in named.iter().enumerate() {
            networks::find(name, "0.0.0.0").map_err(|error| match error {
                HostError::Unknown => Error::msg(format_args!(
                    "{key}_networks[{place}]: `{name}` is not among the `networks` of the plugin's table"
                )),
                other => other.into(),
            })?;
        }
        Ok(Lists { key, own: own.into_iter().collect(), named })
    }

    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.named.is_empty()
    }

    /// Where the address was found.
    pub fn find(&self, address: IpAddr) -> Result<Option<String>> {
        if let Some(network) = self.own.find(address) {
            return Ok(Some(format!("`{}` has {network}", self.key)));
        }
        if self.named.is_empty() {
            return Ok(None);
        }
        let address = address.to_string();
        for name in &self.named {
            if let Some(entry) = networks::find(name, &address)? {
                return Ok(Some(format!("`{name}` has {entry}")));
            }
        }
        Ok(None)
    }
}

fn read(key: &str, place: usize, text: &str) -> Result<Network> {
    let entry = Entry::read(text).ok_or_else(|| {
        Error::msg(format_args!("{key}[{place}]: {text:?} is neither an IP address nor a network"))
    })?;
    if entry.has_host_bits && counters::increment(&format!("host-bits/{entry:?}"), 1, ONCE_IN)? == 1 {
        log::warn!("{key}[{place}]: {text} has bits set behind its length: it stands for {}", entry.network);
    }
    Ok(entry.network)
}
