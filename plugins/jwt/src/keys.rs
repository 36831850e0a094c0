//! Whom tokens are believed, and by which keys. The algorithms are the config's: a token may choose among them, and a key
//! serves one of its own kind only.

use std::cell::RefCell;

use wasmgate_sdk::{
    Duration, Error, Result,
    audit::Why,
    auth::Refusal,
    config,
    crypto::{Algorithm, VerificationKey},
    http::{self, Call, Failure, Keep},
    log,
    serde_json::{self, Value},
};

use crate::{missing, token::Token};

/// One who issues tokens.
#[config]
pub struct Issuer {
    /// What `iss` of the tokens has to be. Default: anything.
    #[serde(default)]
    iss: Option<String>,
    /// Who `aud` of the tokens has to name, one of them. Default: it is not looked at.
    #[serde(default)]
    audiences: Vec<String>,
    /// Algorithms that tokens may be signed with.
    #[serde(default = "rs256")]
    algorithms: Vec<Algorithm>,
    /// The keys, as a JWK Set (RFC 7517): a table, or its text.
    #[serde(default)]
    jwks: Option<Value>,
    /// Where the keys are fetched from.
    #[serde(default)]
    remote: Option<Remote>,
    /// One public key or certificate, PEM.
    #[serde(default)]
    public_key: Option<String>,
    /// A secret that both sides know, for HS256, HS384 and HS512.
    #[serde(default)]
    secret: Option<String>,
}

/// Where keys are fetched from.
#[config]
struct Remote {
    /// Upstream that has them; `upstreams` of the plugin's table in the gateway's config has to name it.
    upstream: String,
    /// Path of the JWK Set.
    path: String,
    /// Host of the request. Default: the upstream's own.
    #[serde(default)]
    authority: Option<String>,
    #[serde(default = "five_seconds")]
    timeout: Duration,
    /// How long they are good without being fetched again.
    #[serde(default = "ten_minutes")]
    ttl: Duration,
    /// How much longer they serve where they cannot be fetched.
    #[serde(default = "a_day")]
    stale: Duration,
    /// How often they are fetched at most: for a key that is not among them, and after a failure.
    #[serde(default = "ten_seconds")]
    min_refresh: Duration,
}

fn rs256() -> Vec<Algorithm> {
    vec![Algorithm::Rs256]
}

fn seconds(count: u64) -> Duration {
    Duration(std::time::Duration::from_secs(count))
}

fn five_seconds() -> Duration {
    seconds(5)
}

fn ten_seconds() -> Duration {
    seconds(10)
}

fn ten_minutes() -> Duration {
    seconds(600)
}

fn a_day() -> Duration {
    seconds(24 * 3600)
}

/// Largest JWK Set.
const MAX_SET: u32 = 1024 * 1024;

pub struct Keys(Vec<Trusted>);

/// One who is believed.
pub struct Trusted {
    iss: Option<String>,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    source: Source,
}

enum Source {
    Fixed(Ring),
    Remote(Remote, RefCell<Fetched>),
}

/// What this instance has made of the set that is kept.
#[derive(Default)]
struct Fetched {
    version: Option<u64>,
    ring: Ring,
}

/// Keys, each for one algorithm.
#[derive(Default)]
struct Ring(Vec<Entry>);

struct Entry {
    kid: Option<String>,
    algorithm: Algorithm,
    key: VerificationKey,
}

impl Keys {
    pub fn new(issuers: Vec<Issuer>) -> Result<Self> {
        if issuers.is_empty() {
            return Err(missing("issuers: none is given, so nobody could pass"));
        }
        let trusted = issuers.into_iter().enumerate().map(|(place, issuer)| {
            Trusted::new(issuer).map_err(|error| Error::msg(format_args!("issuers[{place}].{error}")))
        });
        Ok(Keys(trusted.collect::<Result<_>>()?))
    }

    /// Whose the token is, if it is anybody's here.
    pub fn verify(&self, token: &Token) -> Result<&Trusted, Refusal> {
        let iss = token.claims.0.get("iss").and_then(Value::as_str);
        let algorithm = Algorithm::from_name(&token.algorithm).ok_or(Refusal::Invalid(Why::ALGORITHM))?;
        let (mut why, mut is_unavailable) = (Why::ISSUER, false);
        for trusted in self.0.iter().filter(|trusted| trusted.iss.is_none() || trusted.iss.as_deref() == iss)
        {
            if !trusted.algorithms.contains(&algorithm) {
                why = Why::ALGORITHM;
                continue;
            }
            match trusted.verify(token, algorithm) {
                Ok(true) => return Ok(trusted),
                Ok(false) => why = Why::SIGNATURE,
                Err(Unavailable) => is_unavailable = true,
            }
        }
        Err(if is_unavailable { Refusal::Unavailable } else { Refusal::Invalid(why) })
    }
}

/// The keys cannot be had.
struct Unavailable;

impl Trusted {
    fn new(issuer: Issuer) -> Result<Self> {
        let Issuer { iss, audiences, algorithms, jwks, remote, public_key, secret } = issuer;
        if algorithms.is_empty() {
            return Err(missing("algorithms: none is given, so nobody could pass"));
        }
        let source = match (jwks, remote, public_key, secret) {
            (Some(set), None, None, None) => Source::Fixed(fixed("jwks", set_of(set), &algorithms)?),
            (None, Some(remote), None, None) => {
                if !remote.path.starts_with('/') {
                    return Err(missing("remote.path: has to begin with /"));
                }
                http::granted(&remote.upstream)
                    .map_err(|error| Error::msg(format_args!("remote.upstream: {error}")))?;
                Source::Remote(remote, RefCell::default())
            }
            (None, None, Some(pem), None) => Source::Fixed(single("public_key", &algorithms, |algorithm| {
                VerificationKey::from_pem(&pem, algorithm)
            })?),
            (None, None, None, Some(secret)) => Source::Fixed(single("secret", &algorithms, |algorithm| {
                VerificationKey::from_secret(&secret, algorithm)
            })?),
            _ => {
                return Err(missing(
                    "jwks: exactly one of jwks, remote, public_key and secret has to be given",
                ));
            }
        };
        Ok(Trusted { iss, audiences, algorithms, source })
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Whether one of its keys has signed the token.
    fn verify(&self, token: &Token, algorithm: Algorithm) -> Result<bool, Unavailable> {
        let (remote, fetched) = match &self.source {
            Source::Fixed(ring) => return Ok(ring.verify(token, algorithm).unwrap_or(false)),
            Source::Remote(remote, fetched) => (remote, fetched),
        };
        let mut fetched = fetched.borrow_mut();
        fetched.refresh(remote, *remote.ttl, &self.algorithms).map_err(|failure| {
            log::warn!("the keys of {} cannot be had: {failure}", remote.upstream);
            Unavailable
        })?;
        if let Some(verified) = fetched.ring.verify(token, algorithm) {
            return Ok(verified);
        }
        // A new key, or none: they may be fetched again, but not for each such token.
        if let Err(failure) = fetched.refresh(remote, *remote.min_refresh, &self.algorithms) {
            log::warn!("the keys of {} cannot be fetched again: {failure}", remote.upstream);
        }
        Ok(fetched.ring.verify(token, algorithm).unwrap_or(false))
    }
}

impl Fetched {
    /// Takes over what is kept, and has it fetched where it is older than this.
    fn refresh(
        &mut self,
        remote: &Remote,
        fresh: std::time::Duration,
        algorithms: &[Algorithm],
    ) -> Result<(), Failure> {
        let call = Call {
            authority: remote.authority.clone(),
            timeout: *remote.timeout,
            max_body: MAX_SET,
            ..Call::get(&remote.upstream, &remote.path)
        };
        let keep = Keep { fresh, stale: *remote.stale, negative: *remote.min_refresh, only_success: true };
        // Where they have to be newer than usual, old ones are no answer.
        let keep = if fresh < *remote.ttl { Keep { stale: std::time::Duration::ZERO, ..keep } } else { keep };
        let key = format!("jwks/{}{}", remote.upstream, remote.path);
        let kept = call.header("accept", "application/jwk-set+json, application/json").fetch(
            &key,
            keep,
            self.version,
        )?;
        if let Some(answer) = kept.answer {
            let set = serde_json::from_slice(&answer.body).ok();
            match set.and_then(|set| Ring::of_set(&set, algorithms)) {
                Some(ring) => self.ring = ring,
                None => log::warn!(
                    "what {} has at {} is no JWK Set with a key of use",
                    remote.upstream,
                    remote.path
                ),
            }
            self.version = Some(kept.version);
        }
        Ok(())
    }
}

impl Ring {
    /// The keys that can be used; none where there are none.
    fn of_set(set: &Value, algorithms: &[Algorithm]) -> Option<Ring> {
        let keys = set.get("keys")?.as_array()?;
        let mut entries = Vec::new();
        for jwk in keys {
            let kid = jwk.get("kid").and_then(Value::as_str);
            let (text, before, mut fault) = (jwk.to_string(), entries.len(), None);
            for &algorithm in algorithms {
                match VerificationKey::from_jwk(&text, algorithm) {
                    Ok(key) => entries.push(Entry { kid: kid.map(str::to_string), algorithm, key }),
                    Err(error) => fault = Some(error),
                }
            }
            // Often that of something else, such as encryption: nothing to warn of.
            if let (true, Some(error)) = (entries.len() == before, fault) {
                log::debug!("the key {} of a set is of no use: {error}", kid.unwrap_or("without a name"));
            }
        }
        let ring = Ring(entries);
        (!ring.0.is_empty()).then_some(ring)
    }

    /// Whether a key that may have signed it has; none where there is no such key.
    fn verify(&self, token: &Token, algorithm: Algorithm) -> Option<bool> {
        let may = |entry: &&Entry| {
            let named = token.kid.is_none() || entry.kid.is_none() || entry.kid == token.kid;
            entry.algorithm == algorithm && named
        };
        let mut verdicts =
            self.0.iter().filter(may).map(|e| e.key.verify(&token.signed, &token.signature)).peekable();
        verdicts.peek()?;
        Some(verdicts.any(|good| good))
    }
}

fn set_of(set: Value) -> Option<Value> {
    match set {
        Value::String(text) => serde_json::from_str(&text).ok(),
        set => Some(set),
    }
}

fn fixed(key: &str, set: Option<Value>, algorithms: &[Algorithm]) -> Result<Ring> {
    let ring = set.and_then(|set| Ring::of_set(&set, algorithms));
    ring.ok_or_else(|| missing(format_args!("{key}: is no JWK Set with a key for these algorithms")))
}

/// One key, for all of the algorithms.
fn single(
    key: &str,
    algorithms: &[Algorithm],
    make: impl Fn(Algorithm) -> Result<VerificationKey, wasmgate_sdk::crypto::KeyError>,
) -> Result<Ring> {
    let entries = algorithms.iter().map(|&algorithm| {
        let made = make(algorithm).map_err(|error| Error::msg(format_args!("{key}: {error}")))?;
        Ok(Entry { kid: None, algorithm, key: made })
    });
    Ok(Ring(entries.collect::<Result<_>>()?))
}
