//! Lets requests with a known API key pass and says whose they are. Keys are known by their
//! SHA-256 only.

mod credential;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use wasmgate_sdk::{Error, HeaderName, LocalResponse, Plugin, Request, Result, Verdict, config, plugin};

use credential::Sources;

/// Where keys are looked for and which are known.
#[config]
#[serde(default)]
pub struct Config {
    /// Header that carries the key; an empty text looks in no header.
    header: String,
    /// Query parameter that may carry the key, too. Keys in URLs end up in logs.
    query: Option<String>,
    /// Cookie that may carry the key, too.
    cookie: Option<String>,
    /// Text in front of the key in the header, such as "Bearer ".
    prefix: String,
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

#[config]
struct Key {
    /// SHA-256 of the key in hex: `printf %s KEY | sha256sum`.
    sha256: String,
    /// Whose key it is.
    consumer: String,
    /// Plan of the consumer, for rate-limit.
    plan: Option<String>,
    /// Name of the key itself, for X-Credential-Identifier.
    id: Option<String>,
    /// Groups of the consumer.
    #[serde(default)]
    groups: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            header: "x-api-key".to_string(),
            query: None,
            cookie: None,
            prefix: String::new(),
            keys: Vec::new(),
            hide_credentials: true,
            realm: "gateway".to_string(),
            anonymous: None,
            run_on_preflight: false,
        }
    }
}

/// What the upstream is told about the caller; a client's own are removed.
const IDENTITY: [&str; 5] = [
    "x-consumer-id",
    "x-consumer-username",
    "x-consumer-groups",
    "x-credential-identifier",
    "x-anonymous-consumer",
];

pub struct KeyAuth {
    sources: Sources,
    /// Digests beside their keys.
    known: Vec<([u8; 32], Key)>,
    challenge: String,
    config: Config,
}

#[plugin]
impl Plugin for KeyAuth {
    type Config = Config;

    fn new(mut config: Config) -> Result<Self> {
        let header = match config.header.as_str() {
            "" => None,
            name => Some(HeaderName::new(name).map_err(|error| Error::msg(format_args!("header: {error}")))?),
        };
        let sources = Sources::new(header, &config.prefix, config.query.take(), config.cookie.take())?;
        if config.realm.contains(['"', '\\']) || config.realm.chars().any(char::is_control) {
            return Err(Error::msg("realm: holds a quote, a backslash or a control character"));
        }
        let keys = std::mem::take(&mut config.keys).into_iter().enumerate();
        let known =
            keys.map(|(place, key)| Ok((digest_of(place, &key)?, key))).collect::<Result<Vec<_>>>()?;
        if known.is_empty() && config.anonymous.is_none() {
            return Err(Error::msg("keys: none is given, so nobody could pass"));
        }
        let challenge = format!("Key realm=\"{}\"", config.realm);
        Ok(KeyAuth { sources, known, challenge, config })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        for name in IDENTITY {
            request.remove_header(name)?;
        }
        if !self.config.run_on_preflight && is_preflight(request) {
            return Ok(Verdict::Next);
        }
        let mut found = self.sources.read(request);
        found.sort_unstable();
        found.dedup();
        match (&found[..], &self.config.anonymous) {
            ([], Some(name)) => self.pass_anonymous(request, name),
            ([], None) => Ok(self.refuse("No API key found in request")),
            ([key], _) => match self.find(key) {
                Some(known) => self.pass(request, known),
                None => Ok(self.refuse("Unauthorized")),
            },
            _ => Ok(self.refuse("Duplicate API key found")),
        }
    }
}

impl KeyAuth {
    /// Compares with every key, so that the time tells nothing.
    fn find(&self, key: &str) -> Option<&Key> {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let equal = |known: &[u8; 32]| bool::from(known[..].ct_eq(&digest[..]));
        self.known.iter().fold(None, |found, (known, key)| if equal(known) { Some(key) } else { found })
    }

    fn pass(&self, request: &Request, key: &Key) -> Result<Verdict> {
        if self.config.hide_credentials {
            self.sources.hide(request)?;
        }
        request.set_header("x-consumer-id", &key.consumer)?;
        request.set_header("x-consumer-username", &key.consumer)?;
        if let Some(id) = &key.id {
            request.set_header("x-credential-identifier", id)?;
        }
        if !key.groups.is_empty() {
            request.set_header("x-consumer-groups", key.groups.join(", "))?;
        }
        if let Some(plan) = &key.plan {
            request.set_var("plan", plan)?;
        }
        request.set_var("consumer", &key.consumer)?;
        Ok(Verdict::Next)
    }

    fn pass_anonymous(&self, request: &Request, name: &str) -> Result<Verdict> {
        request.set_header("x-consumer-id", name)?;
        request.set_header("x-consumer-username", name)?;
        request.set_header("x-anonymous-consumer", "true")?;
        request.set_var("consumer", name)?;
        Ok(Verdict::Next)
    }

    fn refuse(&self, detail: &str) -> Verdict {
        let answer = LocalResponse::new(401).header("www-authenticate", &self.challenge);
        answer.code("unauthenticated").detail(detail).into()
    }
}

/// A browser asks before it sends credentials (Fetch standard, CORS-preflight request).
fn is_preflight(request: &Request) -> bool {
    request.method() == "OPTIONS"
        && request.header("origin").is_some()
        && request.header("access-control-request-method").is_some()
}

fn digest_of(place: usize, key: &Key) -> Result<[u8; 32]> {
    let text = &key.sha256;
    let wrong = || Error::msg(format_args!("keys[{place}].sha256: is not 64 hex digits"));
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}
