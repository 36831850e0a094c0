//! Values with a time to live, shared by all instances of a plugin on all workers. Keys are private
//! to the plugin. The store is bounded: an old value may go before its time.

use std::time::Duration;

use crate::clock::milliseconds;
use crate::host::key_value;
use crate::{HostError, Result};

/// The value of a key.
///
/// ```
/// fn cached(token: &str) -> Option<Vec<u8>> {
///     wasmgate_sdk::kv::get(&format!("introspection/{token}"))
/// }
/// ```
pub fn get(key: &str) -> Option<Vec<u8>> {
    key_value::get(key)
}

/// Sets the value of a key for so long; times are kept in whole milliseconds, up to 49 days.
///
/// Errors: `InvalidValue` for a `ttl` of 0, `TooLarge` (a key above 1024 bytes, a value above 1 MiB).
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::{kv, testing};
///
/// let host = testing::Host::new();
/// host.enter(|| kv::set("color", "red", Duration::from_secs(60)))?;
/// assert_eq!(host.enter(|| kv::get("color")).as_deref(), Some(&b"red"[..]));
/// host.advance(Duration::from_secs(60));
/// assert_eq!(host.enter(|| kv::get("color")), None);
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub fn set(key: &str, value: impl AsRef<[u8]>, ttl: Duration) -> Result<(), HostError> {
    Ok(key_value::set(key, value.as_ref(), milliseconds(ttl))?)
}

/// Forgets a key.
///
/// ```
/// fn log_out(session: &str) {
///     wasmgate_sdk::kv::delete(&format!("session/{session}"));
/// }
/// ```
pub fn delete(key: &str) {
    key_value::delete(key);
}

/// Sets the value of a key that has none, and says whether it did: of all who ask at the same time, one. A value that is there
/// stays, and so does its end. Errors as of [`set`].
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::{kv, testing};
///
/// let host = testing::Host::new();
/// let minute = Duration::from_secs(60);
/// assert_eq!(host.enter(|| kv::add("nonce/7", "", minute)), Ok(true));
/// assert_eq!(host.enter(|| kv::add("nonce/7", "", minute)), Ok(false));
/// host.advance(minute);
/// assert_eq!(host.enter(|| kv::add("nonce/7", "", minute)), Ok(true));
/// ```
pub fn add(key: &str, value: impl AsRef<[u8]>, ttl: Duration) -> Result<bool, HostError> {
    Ok(key_value::add(key, value.as_ref(), milliseconds(ttl))?)
}
