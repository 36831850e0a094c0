//! The host as the SDK's modules call it: the imports of the component, or the fake host in tests.
//! The only place that chooses between the two.

pub use crate::bindings::plugin::wasmgate::plugin::types;

#[cfg(not(all(feature = "testing", not(target_family = "wasm"))))]
pub use crate::bindings::plugin::wasmgate::plugin::{
    audit, clock, consumers, counters, crypto, http_call, key_value, log, metrics, networks, random,
    rate_limits, secrets,
};
#[cfg(not(all(feature = "testing", not(target_family = "wasm"))))]
pub(crate) use crate::exchange;

#[cfg(all(feature = "testing", not(target_family = "wasm")))]
pub use crate::testing::imports::{
    audit, clock, consumers, counters, crypto, exchange, http_call, key_value, log, metrics, networks,
    random, rate_limits, secrets,
};
