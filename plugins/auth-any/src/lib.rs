//! Closes a group of authentication plugins with `any = true`: lets the request pass that one of them has let pass, and refuses
//! all others in the name of all of them.

#[cfg(test)]
mod tests;

use wasmgate_sdk::{
    LocalResponse, Plugin, Request, Result, Verdict,
    audit::{Reason, Why},
    auth::{self, Group, Identity},
    config, plugin,
};

/// What becomes of requests that nobody has let pass.
#[config]
#[serde(default)]
#[schemars(extend("x-closes" = "authentication"))]
#[derive(Default)]
pub struct Config {
    /// Consumer as whom such requests pass; without one they are refused.
    anonymous: Option<String>,
    /// Which of them.
    anonymous_if: AnonymousIf,
    /// Whether CORS preflights need a credential, too.
    run_on_preflight: bool,
}

#[config]
#[serde(rename_all = "lowercase")]
#[derive(Default, PartialEq)]
enum AnonymousIf {
    /// Those without any credential.
    #[default]
    Missing,
    /// Also those whose credentials are not good.
    Refused,
}

pub struct AuthAny {
    anonymous: Option<Identity>,
    anonymous_if: AnonymousIf,
    run_on_preflight: bool,
}

#[plugin]
impl Plugin for AuthAny {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(AuthAny {
            anonymous: config.anonymous.as_deref().map(Identity::anonymous).transpose()?,
            anonymous_if: config.anonymous_if,
            run_on_preflight: config.run_on_preflight,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let group = auth::close(request)?;
        if group.passed || (!self.run_on_preflight && request.is_preflight()) {
            return Ok(Verdict::Next);
        }
        match self.anonymous.as_ref().filter(|_| self.may_be_anonymous(&group)) {
            Some(anonymous) => {
                anonymous.announce(request)?;
                Ok(Verdict::Next)
            }
            None => Ok(refusal(group).into()),
        }
    }
}

impl AuthAny {
    /// Whom nobody could check may be somebody.
    fn may_be_anonymous(&self, group: &Group) -> bool {
        !group.presented || (self.anonymous_if == AnonymousIf::Refused && !group.undecided)
    }
}

fn refusal(group: Group) -> LocalResponse {
    let why = match (group.undecided, group.presented) {
        (true, _) => Why::UNAVAILABLE,
        (_, true) => Why::NONE_VALID,
        (_, false) => Why::MISSING,
    };
    let (consumer, credential) = group.claimed;
    let detail = Some(group.reasons.join(", ")).filter(|all| !all.is_empty());
    let reason = Reason { why, detail, consumer, credential };
    if group.undecided {
        let refusal = LocalResponse::new(503).code("authentication_unavailable");
        return refusal.detail("It cannot be checked now whose the request is.").why(reason);
    }
    // A 401 has to say what is asked for (RFC 9110, section 15.5.2), one line for each way (section 11.6.1).
    let refusal = match group.challenges.is_empty() {
        true => LocalResponse::new(403).code("forbidden"),
        false => LocalResponse::new(401).code("unauthenticated"),
    };
    let refusal = refusal.detail(match group.presented {
        true => "None of the credentials of the request is valid.",
        false => "The request has no credentials.",
    });
    let refusal = refusal.why(reason);
    group.challenges.iter().fold(refusal, |refusal, challenge| refusal.header("www-authenticate", challenge))
}
