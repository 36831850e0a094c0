//! What authentication plugins have alike: where credentials stand in a request, how the others are told whose it is, and
//! how a request without a good one is refused.

mod bearer;
mod claims;
mod gate;
mod group;
mod identity;
mod json;
mod places;

pub use bearer::{Bearer, Refusal};
pub use claims::{Claims, Rules};
pub use gate::Gate;
pub use group::{Group, close};
pub use identity::{Identity, forget, is_identity};
pub use json::strict_object;
pub use places::{OneOrMore, Places};

use crate::{Error, LocalResponse, Result};

/// The value of WWW-Authenticate for a scheme (RFC 9110, section 11.6.1). Errors: the realm cannot stand in quotes.
///
/// ```
/// use wasmgate_sdk::auth;
///
/// assert_eq!(auth::challenge("Bearer", "api").unwrap(), "Bearer realm=\"api\"");
/// assert!(auth::challenge("Bearer", "a\"b").is_err());
/// ```
pub fn challenge(scheme: &str, realm: &str) -> Result<String> {
    match realm.contains(['"', '\\']) || realm.chars().any(char::is_control) {
        true => Err(Error::msg("realm: holds a quote, a backslash or a control character")),
        false => Ok(format!("{scheme} realm=\"{realm}\"")),
    }
}

/// A 401 with this challenge and the code "unauthenticated".
///
/// ```
/// let refused = wasmgate_sdk::auth::unauthenticated("Key realm=\"api\"", "Unauthorized");
/// assert_eq!(refused.status, 401);
/// ```
pub fn unauthenticated(challenge: &str, detail: &str) -> LocalResponse {
    let answer = LocalResponse::new(401).header("www-authenticate", challenge);
    answer.code("unauthenticated").detail(detail)
}

/// Checks what is to be the value of a header, such as the name of a consumer. The error names the key of the config.
///
/// ```
/// use wasmgate_sdk::auth::check_name;
///
/// assert!(check_name("consumer", "alice").is_ok());
/// assert!(check_name("consumer", " ").is_err());
/// ```
pub fn check_name(key: &str, name: &str) -> Result<()> {
    match name.trim().is_empty() || name.len() > 1024 || name.chars().any(char::is_control) {
        true => Err(Error::msg(format_args!(
            "{key}: is empty, longer than 1024 bytes or holds a control character"
        ))),
        false => Ok(()),
    }
}
