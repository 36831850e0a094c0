//! Lets requests with the name and the password of a user pass (RFC 7617) and says whose they are.

mod cache;
#[cfg(test)]
mod tests;
mod users;

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use wasmgate_sdk::{
    Duration, Error, LocalResponse, Plugin, Request, Result, Verdict,
    audit::{Reason, Why},
    auth::{self, Gate, OneOrMore, Places},
    config, plugin,
};

use cache::Cache;
use users::{Checked, Consumer, Lines, Users};

/// Longest credentials, decoded; the host takes no password above 4096 bytes.
const MAX_CREDENTIALS: usize = 8192;

/// Who is known, and what becomes of the others.
#[config]
#[serde(default)]
pub struct Config {
    /// The users as "name:hash": a list, or a text with one in a line, as htpasswd writes it.
    users: Lines,
    /// What is known of users besides, by their names.
    consumers: BTreeMap<String, Consumer>,
    /// How long a password that was right is not held against its hash again, from its last use on; 0s for never.
    cache_ttl: Duration,
    /// Take the credentials out of the request before the upstream sees it.
    hide_credentials: bool,
    /// Named in WWW-Authenticate.
    realm: String,
    /// Consumer as whom requests without credentials pass; without one they are refused.
    anonymous: Option<String>,
    /// Whether CORS preflights need credentials, too.
    run_on_preflight: bool,
    /// One of several plugins of which one has to let the request pass; auth-any stands behind them.
    #[schemars(extend("x-leaves-open" = "authentication"))]
    any: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            users: Lines::default(),
            consumers: BTreeMap::new(),
            cache_ttl: Duration(std::time::Duration::from_secs(60)),
            hide_credentials: true,
            realm: "gateway".to_string(),
            anonymous: None,
            run_on_preflight: false,
            any: false,
        }
    }
}

pub struct BasicAuth {
    gate: Gate,
    users: Users,
    cache: Cache,
    challenge: String,
}

#[plugin]
impl Plugin for BasicAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let users = Users::new(config.users, config.consumers)?;
        if users.is_empty() && config.anonymous.is_none() {
            return Err(Error::msg("users: none is given, so nobody could pass"));
        }
        let header = OneOrMore::One("authorization".to_string());
        let places = Places::new(header, "Basic ".to_string(), None, None)?;
        Ok(BasicAuth {
            gate: Gate::new(config.any, config.anonymous.as_deref())?
                .on_preflight(config.run_on_preflight)
                .credentials(places, config.hide_credentials),
            users,
            cache: Cache::new(*config.cache_ttl),
            challenge: format!("{}, charset=\"UTF-8\"", auth::challenge("Basic", &config.realm)?),
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.gate.enter(request)? {
            return Ok(Verdict::Next);
        }
        let refusal = |detail| auth::unauthenticated(&self.challenge, detail);
        let presented = self.gate.presented(request);
        let credentials = match &presented[..] {
            [] => return self.gate.missing(request, refusal("The request has no user name and password.")),
            [one] => read(one).ok_or(Why::MALFORMED),
            _ => Err(Why::SEVERAL),
        };
        let wrong = match credentials.map(|credentials| self.check(&credentials)) {
            Ok(Checked::Right(user)) => return self.gate.pass(request, self.users.identity(user)),
            Ok(Checked::Wrong(Some(user))) => {
                Reason::new(Why::WRONG_PASSWORD).whose(self.users.identity(user))
            }
            // What stands there as a name may be a password.
            Ok(Checked::Wrong(None)) => Why::UNKNOWN_USER.into(),
            Ok(Checked::Unknown) => {
                let busy =
                    LocalResponse::new(503).code("authentication_unavailable").header("retry-after", "1");
                let busy = busy.detail("Passwords cannot be checked now.").why(Why::UNAVAILABLE);
                return self.gate.refuse(request, busy);
            }
            Err(why) => why.into(),
        };
        self.gate.refuse(request, refusal("The user name or the password is wrong.").why(wrong))
    }
}

impl BasicAuth {
    fn check(&self, credentials: &Credentials) -> Checked {
        if let Some(user) = self.cache.find(&credentials.0) {
            return Checked::Right(user);
        }
        let (name, password) = credentials.parts();
        let checked = self.users.check(name, password);
        if let Checked::Right(user) = checked {
            self.cache.keep(&credentials.0, user);
        }
        checked
    }
}

/// A name and a password with a colon between them.
struct Credentials(Vec<u8>);

impl Credentials {
    /// The password may hold colons, the name none.
    fn parts(&self) -> (&[u8], &[u8]) {
        let colon = self.0.iter().position(|&byte| byte == b':').unwrap_or(self.0.len());
        let (name, password) = self.0.split_at(colon);
        (name, password.get(1..).unwrap_or_default())
    }
}

/// None of what has no colon, or holds what no name or password may (RFC 7617, section 2).
fn read(token: &[u8]) -> Option<Credentials> {
    let token = token.trim_ascii();
    let decoded =
        (token.len() <= MAX_CREDENTIALS / 3 * 4 + 4).then(|| STANDARD.decode(token).ok()).flatten()?;
    let is_whole = decoded.contains(&b':') && !decoded.iter().any(u8::is_ascii_control);
    is_whole.then_some(Credentials(decoded))
}
