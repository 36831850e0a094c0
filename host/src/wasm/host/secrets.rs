//! `secrets`: texts of the config.

use super::bindings::wasmgate::plugin::secrets;
use crate::wasm::store::Host;

impl secrets::Host for Host {
    fn get(&mut self, name: String) -> Option<String> {
        self.plugin.grants.secrets.get(&name).cloned()
    }
}
