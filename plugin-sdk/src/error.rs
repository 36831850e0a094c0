//! Why a plugin failed, and why the host refused a call.

use std::fmt;

use crate::host::types;

/// The result of a plugin's function.
///
/// ```
/// use wasmgate_sdk::{Request, Result};
///
/// fn version(request: &Request) -> Result<u32> {
///     Ok(request.header_str("x-version").unwrap_or_default().parse()?)
/// }
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the plugin, as one line of text for the gateway's log. The client never sees it:
/// the route's failure policy decides what happens to the request.
///
/// Any error of the standard library's kind becomes one by `?`, with its causes.
///
/// ```
/// use wasmgate_sdk::{Error, Result};
///
/// fn limit(text: &str) -> Result<u32> {
///     let limit = text.parse()?;
///     if limit == 0 {
///         return Err(Error::msg("limit: must not be 0"));
///     }
///     Ok(limit)
/// }
///
/// assert_eq!(limit("0").unwrap_err().to_string(), "limit: must not be 0");
/// assert_eq!(limit("x").unwrap_err().to_string(), "invalid digit found in string");
/// ```
pub struct Error(String);

impl Error {
    /// An error with this text.
    ///
    /// ```
    /// let error = wasmgate_sdk::Error::msg("no key set");
    /// assert_eq!(error.to_string(), "no key set");
    /// ```
    pub fn msg(message: impl fmt::Display) -> Self {
        Error(message.to_string())
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Error(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why the host refused a call. A refused call changes nothing.
///
/// ```
/// use wasmgate_sdk::{HostError, Request, Result};
///
/// /// Tags the request; a value that no header can hold is left out.
/// fn tag(request: &Request, value: &str) -> Result<()> {
///     match request.set_header("x-tag", value) {
///         Err(HostError::InvalidValue) => Ok(()),
///         other => Ok(other?),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// The header name is not a token (RFC 9110, section 5.1), or the metric name is not one.
    InvalidName,
    /// The value holds a byte that may not stand there (for a header: RFC 9110, section 5.5).
    InvalidValue,
    /// The name, the value, the key or the whole set exceeds the host's limit.
    TooLarge,
    /// The header belongs to the connection or to message framing (RFC 9110, section 7.6.1):
    /// the host alone sets it.
    Forbidden,
    /// It can no longer be changed in this phase.
    Immutable,
    /// There is no upstream, metric or other thing of that name.
    Unknown,
    /// A bound of the host is reached (metric series, keys).
    Exhausted,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostError::InvalidName => "invalid name",
            HostError::InvalidValue => "invalid value",
            HostError::TooLarge => "too large",
            HostError::Forbidden => "this header is the host's to set",
            HostError::Immutable => "can no longer be changed in this phase",
            HostError::Unknown => "unknown name",
            HostError::Exhausted => "a bound of the host is reached",
        })
    }
}

impl std::error::Error for HostError {}

impl From<types::Error> for HostError {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::InvalidName => HostError::InvalidName,
            types::Error::InvalidValue => HostError::InvalidValue,
            types::Error::TooLarge => HostError::TooLarge,
            types::Error::Forbidden => HostError::Forbidden,
            types::Error::Immutable => HostError::Immutable,
            types::Error::Unknown => HostError::Unknown,
            types::Error::Exhausted => HostError::Exhausted,
        }
    }
}
