//! Sets of addresses and networks of the gateway's config (`[networks.NAME]`): those that `networks` of the plugin's table
//! there names. They may be large; the gateway holds one of each for all plugins, and a reload changes it for all at once.

use crate::host::networks;
use crate::{HostError, Result};

/// The entry of a set that an address falls under: the smallest network that has it, as "10.0.0.0/8", or the address
/// itself. None where it is not in the set. IPv4-mapped IPv6 is IPv4 on both sides.
///
/// Errors: `Unknown` (no such set, or none that the plugin may ask: worth asking in `new`, so that the config is refused),
/// `InvalidValue` (it is no address).
///
/// ```
/// use wasmgate_sdk::{HostError, networks, testing::Host};
///
/// let host = Host::new().networks("blocked", &["10.0.0.0/8"]);
/// let find = |set, address| host.enter(|| networks::find(set, address));
/// assert_eq!(find("blocked", "::ffff:10.1.2.3"), Ok(Some("10.0.0.0/8".to_string())));
/// assert_eq!(find("blocked", "192.0.2.1"), Ok(None));
/// assert_eq!(find("offices", "192.0.2.1"), Err(HostError::Unknown));
/// assert_eq!(find("blocked", "192.0.2.1:80"), Err(HostError::InvalidValue));
/// ```
pub fn find(set: &str, address: &str) -> Result<Option<String>, HostError> {
    Ok(networks::contains(set, address)?)
}
