//! Texts that the config grants the plugin by name: `secrets` of its table.

use crate::host::secrets;

/// The text with this name; none where there is none, or the plugin is not granted it. It does not change while an instance
/// lives, so get it in [`Plugin::new`](crate::Plugin::new).
///
/// ```
/// use wasmgate_sdk::{Error, Result, secrets};
///
/// fn signing_key() -> Result<String> {
///     secrets::get("signing").ok_or_else(|| Error::msg("the secret signing is not granted"))
/// }
/// ```
pub fn get(name: &str) -> Option<String> {
    secrets::get(name)
}
