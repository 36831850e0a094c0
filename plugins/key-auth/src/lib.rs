//! Lets requests with a known API key pass and says whose they are: to the upstream in headers, to
//! the plugins behind it in the variables "consumer", "credential", "groups" and "plan".

mod known;
#[cfg(test)]
mod tests;

use wasmgate_sdk::{
    Error, Plugin, Request, Result, Verdict,
    auth::{self, Identity, OneOrMore, Places},
    config, plugin,
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
    /// The known keys.
    keys: Vec<Key>,
    /// Take the key out of the request before the upstream sees it.
    hide_credentials: bool,
    /// Named in WWW-Authenticate.
    realm: String,
    /// Consumer as whom requests without a key pass; without one they are refused.
    anonymous: Option<String>,
    /// Whether CORS preflights need a key, too.
    run_on_preflight: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            header: OneOrMore::One("x-api-key".to_string()),
            prefix: String::new(),
            query: None,
            cookie: None,
            keys: Vec::new(),
            hide_credentials: true,
            realm: "gateway".to_string(),
            anonymous: None,
            run_on_preflight: false,
        }
    }
}

pub struct KeyAuth {
    places: Places,
    known: Known,
    challenge: String,
    hide_credentials: bool,
    anonymous: Option<String>,
    run_on_preflight: bool,
}

#[plugin]
impl Plugin for KeyAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.keys.is_empty() && config.anonymous.is_none() {
            return Err(Error::msg("keys: none is given, so nobody could pass"));
        }
        if let Some(name) = &config.anonymous {
            auth::check_name("anonymous", name)?;
        }
        Ok(KeyAuth {
            places: Places::new(config.header, config.prefix, config.query, config.cookie)?,
            known: Known::new(config.keys)?,
            challenge: auth::challenge("Key", &config.realm)?,
            hide_credentials: config.hide_credentials,
            anonymous: config.anonymous,
            run_on_preflight: config.run_on_preflight,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        auth::forget(request)?;
        if !self.run_on_preflight && auth::is_preflight(request) {
            return Ok(Verdict::Next);
        }
        let mut found = self.places.values(request);
        found.sort_unstable();
        found.dedup();
        match (&found[..], &self.anonymous) {
            ([], Some(name)) => {
                Identity { anonymous: true, ..Identity::of(name) }.announce(request)?;
                Ok(Verdict::Next)
            }
            ([], None) => Ok(self.refuse("No API key found in request")),
            ([key], _) => match self.known.find(key) {
                Some(known) => self.pass(request, known),
                None => Ok(self.refuse("Unauthorized")),
            },
            _ => Ok(self.refuse("Duplicate API key found")),
        }
    }
}

impl KeyAuth {
    fn pass(&self, request: &Request, identity: &Identity) -> Result<Verdict> {
        if self.hide_credentials {
            self.places.hide(request)?;
        }
        identity.announce(request)?;
        Ok(Verdict::Next)
    }

    fn refuse(&self, detail: &str) -> Verdict {
        auth::unauthenticated(&self.challenge, detail).into()
    }
}
