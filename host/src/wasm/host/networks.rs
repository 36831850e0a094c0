//! `networks`: sets of addresses that the plugin may ask.

use super::bindings::wasmgate::plugin::{networks, types::Error};
use crate::wasm::store::Host;

impl networks::Host for Host {
    fn contains(&mut self, set: String, address: String) -> Result<Option<String>, Error> {
        let set =
            self.plugin.grants.networks.iter().find(|place| place.name() == set).ok_or(Error::Unknown)?;
        let address = address.parse().map_err(|_| Error::InvalidValue)?;
        Ok(set.find(address).map(|network| network.to_string()))
    }
}
