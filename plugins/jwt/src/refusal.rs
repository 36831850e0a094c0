//! How requests are refused (RFC 6750, section 3). It is not said which part of a token was wrong.

use wasmgate_sdk::{LocalResponse, Result, auth};

use crate::missing;

/// Why a request does not pass.
#[derive(Debug, PartialEq)]
pub enum Refusal {
    /// There is no token.
    Missing,
    /// There is more than one.
    Several,
    Invalid,
    Expired,
    /// It is valid and not enough.
    Insufficient,
    /// The keys cannot be had.
    Unavailable,
    /// The gateway's consumers cannot be looked up.
    ConsumersUnavailable,
}

pub struct Challenge {
    plain: String,
    insufficient: String,
}

impl Challenge {
    pub fn new(realm: &str, scopes: &[String], any_scope: &[String]) -> Result<Self> {
        let plain = auth::challenge("Bearer", realm)?;
        let wanted: Vec<&str> = scopes.iter().chain(any_scope).map(String::as_str).collect();
        let is_token = |scope: &&str| {
            !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
        };
        if !wanted.iter().all(is_token) {
            return Err(missing("scopes: hold what no scope can (RFC 6749, section 3.3)"));
        }
        let scope = match wanted.is_empty() {
            true => String::new(),
            false => format!(", scope=\"{}\"", wanted.join(" ")),
        };
        let insufficient = format!("{plain}, error=\"insufficient_scope\"{scope}");
        Ok(Challenge { plain, insufficient })
    }

    pub fn answer(&self, refusal: &Refusal) -> LocalResponse {
        let invalid = |error: &str, detail: &str| {
            let challenge = format!("{}, error=\"{error}\", error_description=\"{detail}\"", self.plain);
            auth::unauthenticated(&challenge, detail)
        };
        match refusal {
            Refusal::Missing => auth::unauthenticated(&self.plain, "The request has no token."),
            Refusal::Several => invalid("invalid_request", "The request has more than one token."),
            Refusal::Invalid => invalid("invalid_token", "The token is not valid."),
            Refusal::Expired => invalid("invalid_token", "The token has expired."),
            Refusal::Insufficient => LocalResponse::new(403)
                .header("www-authenticate", &self.insufficient)
                .code("insufficient_scope")
                .detail("The token does not allow this."),
            Refusal::Unavailable => {
                LocalResponse::new(503).code("jwks_unavailable").detail("Tokens cannot be checked now.")
            }
            Refusal::ConsumersUnavailable => LocalResponse::new(503)
                .code("consumers_unavailable")
                .detail("Consumers cannot be looked up now."),
        }
    }
}
