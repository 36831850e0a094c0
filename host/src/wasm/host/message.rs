//! What the calls of a request and of a response have alike.

use http::HeaderMap;
use wasmtime::Result;

use super::bindings::wasmgate::plugin::types::{self, Error, Header};
use crate::{
    config::PluginLimits,
    plugin::{BodyMode, exchange::State, headers::Refusal},
    wasm::store::Host,
};

/// A trap, or what the guest is told.
pub type Answer<T> = Result<Result<T, Error>>;

impl Host {
    /// A change is refused where a read would trap: the guest is told why.
    pub fn change<T>(&mut self, change: impl FnOnce(&mut State) -> Result<T, Refusal>) -> Answer<T> {
        let changed = self.exchange.as_deref_mut().ok_or(Refusal::Immutable).and_then(change);
        Ok(changed.map_err(Error::from))
    }
}

pub fn first(map: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    map.get(name).map(|value| value.as_bytes().to_vec())
}

pub fn all(map: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    map.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
}

pub fn copy(map: &HeaderMap) -> Vec<Header> {
    map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// What the guest asks for, within its limit.
pub fn body_mode(mode: types::BodyMode, limits: &PluginLimits) -> Option<BodyMode> {
    let most = u32::try_from(limits.body).unwrap_or(u32::MAX);
    match mode {
        types::BodyMode::None => None,
        types::BodyMode::Peek(bytes) => Some(BodyMode::Peek(bytes.min(most))),
        types::BodyMode::Buffer(bytes) => Some(BodyMode::Buffer(bytes.min(most))),
        types::BodyMode::Stream => Some(BodyMode::Stream),
    }
}
