//! Lets requests with a known API key pass and says whose they are: to the upstream in headers, to
//! the plugins behind it in the variables "consumer" and "plan".

mod known;
mod places;
#[cfg(test)]
mod tests;

use wasmgate_sdk::{Error, LocalResponse, Plugin, Request, Result, Verdict, config, plugin};

use known::{Key, Known, check_name};
use places::{OneOrMore, Places};

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
            check_name("anonymous", name)?;
        }
        Ok(KeyAuth {
            places: Places::new(config.header, config.prefix, config.query, config.cookie)?,
            known: Known::new(config.keys)?,
            challenge: challenge(&config.realm)?,
            hide_credentials: config.hide_credentials,
            anonymous: config.anonymous,
            run_on_preflight: config.run_on_preflight,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        remove_identity(request)?;
        if !self.run_on_preflight && is_preflight(request) {
            return Ok(Verdict::Next);
        }
        let mut found = self.places.keys(request);
        found.sort_unstable();
        found.dedup();
        match (&found[..], &self.anonymous) {
            ([], Some(name)) => pass_anonymous(request, name),
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
    fn pass(&self, request: &Request, key: &Key) -> Result<Verdict> {
        if self.hide_credentials {
            self.places.hide(request)?;
        }
        name_consumer(request, &key.consumer)?;
        if let Some(id) = &key.id {
            request.set_header("x-credential-identifier", id)?;
        }
        if !key.groups.is_empty() {
            request.set_header("x-consumer-groups", key.groups.join(", "))?;
        }
        if let Some(plan) = &key.plan {
            request.set_var("plan", plan)?;
        }
        Ok(Verdict::Next)
    }

    fn refuse(&self, detail: &str) -> Verdict {
        let answer = LocalResponse::new(401).header("www-authenticate", &self.challenge);
        answer.code("unauthenticated").detail(detail).into()
    }
}

fn pass_anonymous(request: &Request, name: &str) -> Result<Verdict> {
    name_consumer(request, name)?;
    request.set_header("x-anonymous-consumer", "true")?;
    Ok(Verdict::Next)
}

fn name_consumer(request: &Request, name: &str) -> Result<()> {
    request.set_header("x-consumer-id", name)?;
    request.set_header("x-consumer-username", name)?;
    request.set_var("consumer", name)?;
    Ok(())
}

/// Only this plugin says who the caller is. Many upstreams take `_` for `-` in names (RFC 3875,
/// section 4.1.18).
fn remove_identity(request: &Request) -> Result<()> {
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

/// A browser asks before it sends credentials (Fetch standard, CORS-preflight request).
fn is_preflight(request: &Request) -> bool {
    request.method() == "OPTIONS"
        && request.header("origin").is_some()
        && request.header("access-control-request-method").is_some()
}

fn challenge(realm: &str) -> Result<String> {
    match realm.contains(['"', '\\']) || realm.chars().any(char::is_control) {
        true => Err(Error::msg("realm: holds a quote, a backslash or a control character")),
        false => Ok(format!("Key realm=\"{realm}\"")),
    }
}
