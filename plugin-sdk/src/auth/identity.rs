//! Whose a request is: headers for the upstream, variables for the plugins behind.

use super::check_name;
use crate::{Error, Request, Result};

/// Headers that say whose a request is.
pub(super) const HEADERS: [&str; 3] = ["x-consumer-*", "x-credential-identifier", "x-anonymous-consumer"];

/// Whose a request is, as far as it is known.
///
/// ```
/// use wasmgate_sdk::{auth::Identity, testing};
///
/// let exchange = testing::Request::get("/").build();
/// let alice = Identity { groups: vec!["staff".to_string()], ..Identity::of("alice") };
/// alice.announce(&exchange.request())?;
/// let request = exchange.request();
/// assert_eq!(request.header_str("x-consumer-id").as_deref(), Some("alice"));
/// assert_eq!(request.var_str("groups").as_deref(), Some("staff"));
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// X-Consumer-ID, X-Consumer-Username and the variable "consumer".
    pub consumer: String,
    /// What it is called elsewhere: X-Consumer-Custom-ID.
    pub custom_id: Option<String>,
    /// What it was known by, never a secret: X-Credential-Identifier and the variable "credential".
    pub credential: Option<String>,
    /// X-Consumer-Groups, with ", " between them, and the variable "groups", with commas.
    pub groups: Vec<String>,
    /// The variable "plan".
    pub plan: Option<String>,
    /// What a token says, as JSON: the variable "claims".
    pub claims: Option<String>,
    /// Nobody has proved anything: X-Anonymous-Consumer.
    pub anonymous: bool,
}

impl Identity {
    /// This consumer, of whom nothing else is known.
    ///
    /// ```
    /// assert_eq!(wasmgate_sdk::auth::Identity::of("alice").plan, None);
    /// ```
    pub fn of(consumer: &str) -> Self {
        Identity { consumer: consumer.to_string(), ..Identity::default() }
    }

    /// Of whom nothing is known but that requests without a credential are his. The error names the key "anonymous".
    ///
    /// ```
    /// use wasmgate_sdk::auth::Identity;
    ///
    /// assert!(Identity::anonymous("guest")?.anonymous);
    /// assert!(Identity::anonymous("").is_err());
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn anonymous(name: &str) -> Result<Self> {
        check_name("anonymous", name)?;
        Ok(Identity { anonymous: true, ..Identity::of(name) })
    }

    /// Tells the upstream in headers and the plugins behind in variables, in place of what was told before and of what the
    /// client says of itself. Errors: `InvalidValue` (what no header can hold, a comma in a group), `TooLarge`, `Exhausted` (of
    /// variables), `Immutable`; then nothing has changed.
    ///
    /// The example is that of the type.
    pub fn announce(&self, request: &Request) -> Result<()> {
        Ok(request.identify(self)?)
    }

    /// Checks what a config says of somebody: everything is to be the value of a header. The error names the key, `consumer`,
    /// `plan`, `id` or `groups[0]`.
    ///
    /// ```
    /// use wasmgate_sdk::auth::Identity;
    ///
    /// let staff = Identity { groups: vec!["a,b".to_string()], ..Identity::of("alice") };
    /// assert_eq!(staff.check().unwrap_err().to_string(), "groups[0]: holds a comma");
    /// ```
    pub fn check(&self) -> Result<()> {
        check_name("consumer", &self.consumer)?;
        for (name, value) in [("plan", &self.plan), ("id", &self.credential)] {
            value.as_deref().map_or(Ok(()), |value| check_name(name, value))?;
        }
        for (place, group) in self.groups.iter().enumerate() {
            check_name(&format!("groups[{place}]"), group)?;
            if group.contains(',') {
                return Err(Error::msg(format_args!("groups[{place}]: holds a comma")));
            }
        }
        Ok(())
    }
}

/// Removes what a client itself says of whose its request is: only plugins say that. Many upstreams take `_` for `-` in
/// names (RFC 3875, section 4.1.18), so both go. Errors: as of [`Request::remove_headers`].
///
/// ```
/// use wasmgate_sdk::{auth, testing};
///
/// let exchange = testing::Request::get("/").header("x_consumer_id", "root").build();
/// auth::forget(&exchange.request())?;
/// assert!(exchange.request().header("x_consumer_id").is_none());
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub fn forget(request: &Request) -> Result<()> {
    request.remove_headers(&HEADERS)?;
    Ok(())
}

/// Whether this header, in lower case, says whose a request is.
///
/// ```
/// assert!(wasmgate_sdk::auth::is_identity("x-consumer-groups"));
/// ```
pub fn is_identity(name: &str) -> bool {
    HEADERS.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *pattern,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_last_one_that_is_announced_is_the_whole_of_it() {
        let exchange = testing::Request::get("/").build();
        let request = exchange.request();
        let some = |text: &str| Some(text.to_string());
        let groups = vec!["admins".to_string()];
        let (credential, plan, claims) = (some("k1"), some("pro"), some("{}"));
        let all = Identity { credential, plan, claims, groups, anonymous: true, ..Identity::of("alice") };
        all.announce(&request).unwrap();
        Identity::of("bob").announce(&request).unwrap();
        assert_eq!(request.header_all("x-consumer-id"), [b"bob"]);
        for name in ["x-consumer-groups", "x-credential-identifier", "x-anonymous-consumer"] {
            assert_eq!(request.header(name), None, "{name}");
        }
        for name in ["credential", "groups", "plan", "claims"] {
            assert_eq!(request.var(name), None, "{name}");
        }
    }

    #[test]
    fn whoever_cannot_be_named_in_headers_is_not_announced() {
        let exchange = testing::Request::get("/").build();
        let request = exchange.request();
        let forged = Identity { groups: vec!["a\r\nx-admin: 1".to_string()], ..Identity::of("alice") };
        assert!(forged.announce(&request).is_err());
        assert_eq!((request.header("x-consumer-id"), request.var("consumer")), (None, None));
    }
}
