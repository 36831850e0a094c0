//! `key-value`: values with a time to live, under the plugin's name.

use std::time::Duration;

use super::bindings::wasmgate::plugin::{key_value, types::Error};
use crate::wasm::store::Host;

impl key_value::Host for Host {
    fn get(&mut self, key: String) -> Option<Vec<u8>> {
        let plugin = &self.plugin;
        plugin.capabilities.key_value.get(&plugin.scope, &key).map(Into::into)
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: u32) -> Result<(), Error> {
        if ttl_ms == 0 {
            return Err(Error::InvalidValue);
        }
        let plugin = &self.plugin;
        let ttl = Duration::from_millis(ttl_ms.into());
        let kept = plugin.capabilities.key_value.set(&plugin.scope, &key, value.into(), ttl);
        kept.then_some(()).ok_or(Error::TooLarge)
    }

    fn delete(&mut self, key: String) {
        let plugin = &self.plugin;
        plugin.capabilities.key_value.delete(&plugin.scope, &key);
    }

    fn add(&mut self, key: String, value: Vec<u8>, ttl_ms: u32) -> Result<bool, Error> {
        if ttl_ms == 0 {
            return Err(Error::InvalidValue);
        }
        let plugin = &self.plugin;
        let ttl = Duration::from_millis(ttl_ms.into());
        let added = plugin.capabilities.key_value.add(&plugin.scope, &key, value.into(), ttl);
        added.ok_or(Error::TooLarge)
    }
}
