//! How requests with bearer tokens are refused (RFC 6750, section 3). It is not said which part of a token was wrong.

use crate::{Error, LocalResponse, Result, audit::Why, auth};

/// Why a request does not pass. The example is that of [`Bearer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no token.
    Missing,
    /// There is more than one.
    Several,
    /// It is not valid, for this reason, which only the audit is told.
    Invalid(Why),
    /// It is valid and not enough, for this reason, which only the audit is told.
    Insufficient(Why),
    /// What it is checked with cannot be had.
    Unavailable,
}

/// What is said to those who are refused.
///
/// ```
/// use wasmgate_sdk::{audit::Why, auth::{Bearer, Refusal}};
///
/// let bearer = Bearer::new("api", &["read".to_string()], &[], "keys_unavailable")?;
/// assert_eq!(bearer.answer(&Refusal::Invalid(Why::EXPIRED)).status, 401);
/// assert_eq!(bearer.answer(&Refusal::Insufficient(Why::SCOPE)).status, 403);
/// assert_eq!(bearer.answer(&Refusal::Unavailable).code.as_deref(), Some("keys_unavailable"));
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub struct Bearer {
    plain: String,
    insufficient: String,
    unavailable: &'static str,
}

impl Bearer {
    /// `unavailable` is the code of [`Refusal::Unavailable`]. Errors: the realm cannot stand in quotes, or a scope is none (RFC
    /// 6749, section 3.3). The example is that of the type.
    pub fn new(
        realm: &str,
        scopes: &[String],
        any_scope: &[String],
        unavailable: &'static str,
    ) -> Result<Self> {
        let plain = auth::challenge("Bearer", realm)?;
        let wanted: Vec<&str> = scopes.iter().chain(any_scope).map(String::as_str).collect();
        let is_token = |scope: &&str| {
            !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
        };
        if !wanted.iter().all(is_token) {
            return Err(Error::msg("scopes: hold what no scope can (RFC 6749, section 3.3)"));
        }
        let scope = match wanted.is_empty() {
            true => String::new(),
            false => format!(", scope=\"{}\"", wanted.join(" ")),
        };
        let insufficient = format!("{plain}, error=\"insufficient_scope\"{scope}");
        Ok(Bearer { plain, insufficient, unavailable })
    }

    /// The answer. The example is that of the type.
    pub fn answer(&self, refusal: &Refusal) -> LocalResponse {
        let invalid = |error: &str, detail: &str| {
            let challenge = format!("{}, error=\"{error}\", error_description=\"{detail}\"", self.plain);
            auth::unauthenticated(&challenge, detail)
        };
        let answer = match refusal {
            Refusal::Missing => auth::unauthenticated(&self.plain, "The request has no token."),
            Refusal::Several => invalid("invalid_request", "The request has more than one token."),
            Refusal::Invalid(_) => invalid("invalid_token", "The token is not valid."),
            Refusal::Insufficient(_) => LocalResponse::new(403)
                .header("www-authenticate", &self.insufficient)
                .code("insufficient_scope")
                .detail("The token does not allow this."),
            Refusal::Unavailable => {
                LocalResponse::new(503).code(self.unavailable).detail("Tokens cannot be checked now.")
            }
        };
        answer.why(refusal.why())
    }
}

impl Refusal {
    /// The reason, as the audit has it.
    ///
    /// ```
    /// use wasmgate_sdk::{audit::Why, auth::Refusal};
    ///
    /// assert_eq!(Refusal::Invalid(Why::AUDIENCE).why(), Why::AUDIENCE);
    /// ```
    pub fn why(&self) -> Why {
        match *self {
            Refusal::Missing => Why::MISSING,
            Refusal::Several => Why::SEVERAL,
            Refusal::Invalid(why) | Refusal::Insufficient(why) => why,
            Refusal::Unavailable => Why::UNAVAILABLE,
        }
    }
}
