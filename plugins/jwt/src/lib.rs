//! Lets requests with a valid JSON Web Token pass (RFC 7519, RFC 8725) and says whose they are. What is refused, is refused
//! as RFC 6750 has it.

mod keys;
#[cfg(test)]
mod tests;
mod token;

use std::collections::{BTreeMap, BTreeSet};

use wasmgate_sdk::{
    Duration, Error, HeaderName, LocalResponse, Plugin, Request, Result, Verdict,
    audit::Why,
    auth::{Bearer, Claims, Gate, Identity, OneOrMore, Places, Refusal, Rules},
    config,
    consumers::{self, Failure},
    plugin,
    serde_json::Value,
};

use keys::{Issuer, Keys};
use token::Token;

/// Who may issue tokens, where they stand, what they have to say and who is told of it.
#[config]
pub struct Config {
    /// Who issues tokens, and the keys that they are signed with; at least one.
    issuers: Vec<Issuer>,
    /// Header that carries the token, or a list of such; an empty list looks in no header.
    #[serde(default = "authorization")]
    header: OneOrMore,
    /// Text in front of the token in these headers, in any case.
    #[serde(default = "bearer")]
    prefix: String,
    /// Query parameter that may carry the token, too. Tokens in URLs end up in logs.
    #[serde(default)]
    query: Option<String>,
    /// Cookie that may carry the token, too.
    #[serde(default)]
    cookie: Option<String>,
    /// How far clocks may differ.
    #[serde(default = "half_a_minute")]
    leeway: Duration,
    /// Whether tokens have to have an end (exp).
    #[serde(default = "yes")]
    require_exp: bool,
    /// Longest time from iat to exp. Default: any.
    #[serde(default)]
    max_lifetime: Option<Duration>,
    /// What claims have to be, by their paths: a value, a list of which one has to be there, or true for any but false.
    #[serde(default)]
    required_claims: BTreeMap<String, Value>,
    /// Scopes that a token has to have, all of them.
    #[serde(default)]
    scopes: Vec<String>,
    /// Scopes of which a token has to have one.
    #[serde(default)]
    any_scope: Vec<String>,
    /// Claims that list the scopes; the first that is there counts.
    #[serde(default = "scope_claims")]
    scope_claims: Vec<String>,
    /// Claims that name the consumer; the first that is there counts. A token without any is refused.
    #[serde(default = "consumer_claims")]
    consumer_claims: Vec<String>,
    /// Whether the claim's consumer has to be one of the gateway's, who brings its groups and its plan.
    #[serde(default)]
    consumer_lookup: ConsumerLookup,
    /// Claim that lists the consumer's groups, by its path.
    #[serde(default)]
    groups_claim: Option<String>,
    /// Claim that names the consumer's plan, by its path.
    #[serde(default)]
    plan_claim: Option<String>,
    /// Headers that tell the upstream claims, by their paths. What the client sends there is removed.
    #[serde(default)]
    headers: BTreeMap<HeaderName, String>,
    /// Tokens that are no longer good, by jti: a list, or a text with one in a line.
    #[serde(default)]
    revoked: Option<Lines>,
    /// Take the token out of the request before the upstream sees it.
    #[serde(default = "yes")]
    hide_credentials: bool,
    /// Named in WWW-Authenticate.
    #[serde(default = "gateway")]
    realm: String,
    /// Consumer as whom requests without a token pass; without one they are refused.
    #[serde(default)]
    anonymous: Option<String>,
    /// Whether CORS preflights need a token, too.
    #[serde(default)]
    run_on_preflight: bool,
    /// One of several plugins of which one has to let the request pass; auth-any stands behind them.
    #[serde(default)]
    #[schemars(extend("x-leaves-open" = "authentication"))]
    any: bool,
}

/// How the claim names one of the gateway's consumers.
#[config]
#[serde(rename_all = "snake_case")]
#[derive(Clone, Copy, Default, PartialEq)]
enum ConsumerLookup {
    /// By its name.
    Name,
    /// By its custom_id.
    CustomId,
    /// It does not: whoever it names is the consumer.
    #[default]
    None,
}

/// A list of words, or a text with one in a line.
#[config]
#[serde(untagged, expecting = "expected a list, or a text of lines")]
enum Lines {
    List(Vec<String>),
    Text(String),
}

pub struct Jwt {
    gate: Gate,
    keys: Keys,
    rules: Rules,
    consumer_lookup: ConsumerLookup,
    /// Sorted.
    revoked: Vec<String>,
    challenge: Bearer,
}

fn authorization() -> OneOrMore {
    OneOrMore::One("authorization".to_string())
}

fn bearer() -> String {
    "Bearer ".to_string()
}

fn half_a_minute() -> Duration {
    Duration(std::time::Duration::from_secs(30))
}

fn yes() -> bool {
    true
}

fn scope_claims() -> Vec<String> {
    ["scope", "scp"].map(str::to_string).into()
}

fn consumer_claims() -> Vec<String> {
    vec!["sub".to_string()]
}

fn gateway() -> String {
    "gateway".to_string()
}

#[plugin]
impl Plugin for Jwt {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.consumer_lookup != ConsumerLookup::None {
            consumers::granted().map_err(|error| missing(format_args!("consumer_lookup: {error}")))?;
        }
        let challenge = Bearer::new(&config.realm, &config.scopes, &config.any_scope, "jwks_unavailable")?;
        let places = Places::new(config.header, config.prefix, config.query, config.cookie)?;
        Ok(Jwt {
            gate: Gate::new(config.any, config.anonymous.as_deref())?
                .on_preflight(config.run_on_preflight)
                .credentials(places, config.hide_credentials)
                .tells(config.headers.keys().cloned()),
            keys: Keys::new(config.issuers)?,
            rules: Rules {
                leeway: *config.leeway,
                require_exp: config.require_exp,
                max_lifetime: config.max_lifetime.map(|time| *time),
                required: config.required_claims,
                scopes: config.scopes,
                any_scope: config.any_scope,
                scope_claims: config.scope_claims,
                consumer_claims: config.consumer_claims,
                groups_claim: config.groups_claim,
                plan_claim: config.plan_claim,
                headers: config.headers,
            },
            consumer_lookup: config.consumer_lookup,
            revoked: config.revoked.map(Lines::words).unwrap_or_default(),
            challenge,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.gate.enter(request)? {
            return Ok(Verdict::Next);
        }
        let told = |refusal: Refusal| self.challenge.answer(&refusal);
        let checked = match &self.gate.presented(request)[..] {
            [] => return self.gate.missing(request, told(Refusal::Missing)),
            [token] => self.check(token),
            _ => Err(told(Refusal::Several)),
        };
        let passed = checked.and_then(|claims| {
            let identity = self.identity(&claims)?;
            self.rules.pass(&self.gate, request, &claims, &identity).map_err(told)
        });
        passed.or_else(|refusal| self.gate.refuse(request, refusal))
    }
}

impl Jwt {
    fn check(&self, text: &[u8]) -> Result<Claims, LocalResponse> {
        let told = |refusal| self.challenge.answer(&refusal);
        let token = Token::read(text).ok_or_else(|| told(Refusal::Invalid(Why::MALFORMED)))?;
        let issuer = self.keys.verify(&token).map_err(told)?;
        let told = |refusal| self.rules.refuse(&self.challenge, &token.claims, refusal);
        if token.claims.text("jti").is_some_and(|jti| self.revoked.binary_search(&jti).is_ok()) {
            return Err(told(Refusal::Invalid(Why::REVOKED)));
        }
        self.rules.check(&token.claims, issuer.audiences()).map_err(told)?;
        Ok(token.claims)
    }

    /// Whose the token is, as the gateway knows it where it has to.
    fn identity(&self, claims: &Claims) -> Result<Identity, LocalResponse> {
        let told = |refusal: Refusal| self.challenge.answer(&refusal);
        let said = self.rules.identity(claims).map_err(told)?;
        let found = match self.consumer_lookup {
            ConsumerLookup::None => return Ok(said),
            ConsumerLookup::Name => consumers::named(&said.consumer),
            ConsumerLookup::CustomId => consumers::by_custom_id(&said.consumer),
        };
        let unknown = || self.rules.refuse(&self.challenge, claims, Refusal::Invalid(Why::UNKNOWN_CONSUMER));
        let known = found.map_err(Failure::answer)?.ok_or_else(unknown)?;
        let known = Identity::from(known);
        let mut groups = known.groups;
        groups.extend(said.groups);
        let mut seen = BTreeSet::new();
        groups.retain(|group| seen.insert(group.clone()));
        let (consumer, custom_id, plan) = (known.consumer, known.custom_id, known.plan.or(said.plan));
        Ok(Identity { consumer, custom_id, groups, plan, ..said })
    }
}

impl Lines {
    fn words(self) -> Vec<String> {
        let mut words: Vec<String> = match self {
            Lines::List(words) => words,
            Lines::Text(text) => text.lines().map(|line| line.trim().to_string()).collect(),
        };
        words.retain(|word| !word.is_empty());
        words.sort_unstable();
        words
    }
}

/// What the config has to have and does not.
fn missing(text: impl std::fmt::Display) -> Error {
    Error::msg(text)
}
