//! Whose a request is: headers for the upstream, variables for the plugins behind.

use crate::{Request, Result};

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

    /// Tells the upstream in headers and the plugins behind in variables. Errors: as of
    /// [`Request::set_header`] and [`Request::set_var`].
    ///
    /// The example is that of the type.
    pub fn announce(&self, request: &Request) -> Result<()> {
        request.set_header("x-consumer-id", &self.consumer)?;
        request.set_header("x-consumer-username", &self.consumer)?;
        request.set_var("consumer", &self.consumer)?;
        if let Some(id) = &self.custom_id {
            request.set_header("x-consumer-custom-id", id)?;
        }
        if let Some(credential) = &self.credential {
            request.set_header("x-credential-identifier", credential)?;
            request.set_var("credential", credential)?;
        }
        if !self.groups.is_empty() {
            request.set_header("x-consumer-groups", self.groups.join(", "))?;
            request.set_var("groups", self.groups.join(","))?;
        }
        for (name, value) in [("plan", &self.plan), ("claims", &self.claims)] {
            if let Some(value) = value {
                request.set_var(name, value)?;
            }
        }
        if self.anonymous {
            request.set_header("x-anonymous-consumer", "true")?;
        }
        Ok(())
    }
}

/// Removes what a client itself says of whose its request is: only plugins say that. Many upstreams take `_` for `-` in
/// names (RFC 3875, section 4.1.18), so both go. Errors: as of [`Request::remove_header`].
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
    for (name, _) in request.all_headers() {
        let plain = name.replace('_', "-");
        let is_identity = plain.starts_with("x-consumer-")
            || matches!(plain.as_str(), "x-credential-identifier" | "x-anonymous-consumer");
        if is_identity {
            request.remove_header(&name)?;
        }
    }
    Ok(())
}
