//! Lets requests with a known API key pass and says whose they are: to the upstream in headers, to
//! the plugins behind it in the variables "consumer", "credential", "groups" and "plan".

mod known;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use wasmgate_sdk::{
    Error, Plugin, Request, Result, Verdict,
    audit::{Reason, Why},
    auth::{self, Gate, Identity, OneOrMore, Places},
    config,
    consumers::{self, Failure},
    plugin,
};

use known::{Key, Known};

/// Where keys are looked for and which are known.
#[config]
#[serde(default)]
pub struct Config {
    /// Header that carries the key, or a list of such; an empty list looks in no header.
    header: OneOrMore,
    /// Text in front of the key in these headers, in any case, such as "Bearer ". A header without
    /// it carries no key.
    prefix: String,
    /// Query parameter that may carry the key, too. Keys in URLs end up in logs.
    query: Option<String>,
    /// Cookie that may carry the key, too.
    cookie: Option<String>,
    /// Whether keys of the gateway's consumers are good, too. The plugin's table in the gateway's config has to say
    /// `consumers = true` as well.
    consumers: bool,
    /// Further keys.
    keys: Vec<Key>,
    /// Take the key out of the request before the upstream sees it.
    hide_credentials: bool,
    /// Named in WWW-Authenticate.
    realm: String,
    /// Consumer as whom requests without a key pass; without one they are refused.
    anonymous: Option<String>,
    /// Whether CORS preflights need a key, too.
    run_on_preflight: bool,
    /// One of several plugins of which one has to let the request pass; auth-any stands behind them.
    #[schemars(extend("x-leaves-open" = "authentication"))]
    any: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            header: OneOrMore::One("x-api-key".to_string()),
            prefix: String::new(),
            query: None,
            cookie: None,
            consumers: false,
            keys: Vec::new(),
            hide_credentials: true,
            realm: "gateway".to_string(),
            anonymous: None,
            run_on_preflight: false,
            any: false,
        }
    }
}

pub struct KeyAuth {
    gate: Gate,
    consumers: bool,
    known: Known,
    challenge: String,
}

#[plugin]
impl Plugin for KeyAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.keys.is_empty() && !config.consumers && config.anonymous.is_none() {
            return Err(Error::msg("keys: none is given, so nobody could pass"));
        }
        if config.consumers {
            consumers::granted().map_err(|error| Error::msg(format_args!("consumers: {error}")))?;
        }
        let places = Places::new(config.header, config.prefix, config.query, config.cookie)?;
        Ok(KeyAuth {
            gate: Gate::new(config.any, config.anonymous.as_deref())?
                .on_preflight(config.run_on_preflight)
                .credentials(places, config.hide_credentials),
            consumers: config.consumers,
            known: Known::new(config.keys)?,
            challenge: auth::challenge("Key", &config.realm)?,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.gate.enter(request)? {
            return Ok(Verdict::Next);
        }
        let refusal = |detail| auth::unauthenticated(&self.challenge, detail);
        match &self.gate.presented(request)[..] {
            [] => self.gate.missing(request, refusal("No API key found in request")),
            [key] => match self.whose(key) {
                Ok(identity) => self.gate.pass(request, &identity),
                Err(Unknown::Wrong(reason)) => self.gate.refuse(request, refusal("Unauthorized").why(reason)),
                Err(Unknown::Unavailable(failure)) => self.gate.refuse(request, failure.answer()),
            },
            _ => self.gate.refuse(request, refusal("Duplicate API key found").why(Why::SEVERAL)),
        }
    }
}

/// Why a key is nobody's.
enum Unknown {
    Wrong(Reason),
    Unavailable(Failure),
}

impl KeyAuth {
    fn whose(&self, key: &[u8]) -> Result<Cow<'_, Identity>, Unknown> {
        let wrong = || Unknown::Wrong(Why::INVALID_KEY.into());
        let expired = match self.known.find(key) {
            Some((identity, None)) => return Ok(Cow::Borrowed(identity)),
            Some((identity, Some(why))) => Some(Reason::new(why).whose(identity)),
            None => None,
        };
        let key = str::from_utf8(key).ok().filter(|_| self.consumers);
        let found = key.map_or(Ok(None), consumers::verify_key).map_err(Unknown::Unavailable)?;
        let found = found.map(|credential| Cow::Owned(credential.into()));
        found.ok_or_else(|| expired.map_or_else(wrong, Unknown::Wrong))
    }
}
