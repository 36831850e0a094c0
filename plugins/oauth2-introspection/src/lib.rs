//! Lets requests with a token pass that an authorization server calls active (RFC 7662), and says whose they are. What is
//! refused, is refused as RFC 6750 has it.

mod endpoint;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use wasmgate_sdk::{
    Duration, Error, HeaderName, Plugin, Request, Result, Verdict,
    audit::Why,
    auth::{Bearer, Claims, Gate, Identity, OneOrMore, Places, Refusal, Rules},
    config,
    crypto::{self, Hash},
    http, log,
    metrics::Counter,
    plugin,
    serde_json::Value,
};

use endpoint::{ClientAuth, Endpoint};

/// Longest token in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Who is asked, where tokens stand, what is to be said of them and who is told of it.
#[config]
pub struct Config {
    /// Upstream of the authorization server; `upstreams` of the plugin's table in the gateway's config has to name it.
    upstream: String,
    /// Path of the introspection endpoint.
    path: String,
    /// Host of the question. Default: the upstream's own.
    #[serde(default)]
    authority: Option<String>,
    /// Who the gateway is for the authorization server.
    client_id: String,
    /// What it proves that with.
    client_secret: String,
    /// How: "basic" or "post".
    #[serde(default)]
    auth: ClientAuth,
    /// How long the question may take.
    #[serde(default = "three_seconds")]
    timeout: Duration,
    /// What the server is told of the kind of token.
    #[serde(default)]
    token_type_hint: Option<String>,
    /// How long an answer is good at most.
    #[serde(default = "a_minute")]
    cache_ttl_max: Duration,
    /// How long an answer is good that lets nobody pass, and how long a question that failed is not repeated.
    #[serde(default = "five_seconds")]
    negative_ttl: Duration,
    /// What happens where the server does not answer.
    #[serde(default)]
    on_error: OnError,
    /// What `iss` has to be. Default: it is not looked at.
    #[serde(default)]
    issuer: Option<String>,
    /// Who `aud` has to name, one of them. Default: it is not looked at.
    #[serde(default)]
    audiences: Vec<String>,
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
    /// What claims have to be, by their paths: a value, a list of which one has to be there, or true for any but false.
    #[serde(default)]
    required_claims: BTreeMap<String, Value>,
    /// Scopes that a token has to have, all of them.
    #[serde(default)]
    scopes: Vec<String>,
    /// Scopes of which it has to have one.
    #[serde(default)]
    any_scope: Vec<String>,
    /// Claims that list the scopes; the first that is there counts.
    #[serde(default = "scope_claims")]
    scope_claims: Vec<String>,
    /// Claims that name the consumer; the first that is there counts. A token without any is refused.
    #[serde(default = "consumer_claims")]
    consumer_claims: Vec<String>,
    /// Claim that lists the consumer's groups, by its path.
    #[serde(default)]
    groups_claim: Option<String>,
    /// Claim that names the consumer's plan, by its path.
    #[serde(default)]
    plan_claim: Option<String>,
    /// Headers that tell the upstream claims, by their paths. What the client sends there is removed.
    #[serde(default)]
    headers: BTreeMap<HeaderName, String>,
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

/// What happens where the server does not answer.
#[config]
#[serde(rename_all = "lowercase")]
#[derive(Default, PartialEq)]
enum OnError {
    /// Refuse.
    #[default]
    Deny,
    /// Let pass as the anonymous consumer.
    Allow,
}

pub struct Introspection {
    gate: Gate,
    endpoint: Endpoint,
    /// As whom requests pass whose tokens cannot be checked, if they do.
    otherwise: Option<Identity>,
    issuer: Option<String>,
    audiences: Vec<String>,
    rules: Rules,
    challenge: Bearer,
    failures: Counter,
}

fn seconds(count: u64) -> Duration {
    Duration(std::time::Duration::from_secs(count))
}

fn three_seconds() -> Duration {
    seconds(3)
}

fn five_seconds() -> Duration {
    seconds(5)
}

fn half_a_minute() -> Duration {
    seconds(30)
}

fn a_minute() -> Duration {
    seconds(60)
}

fn authorization() -> OneOrMore {
    OneOrMore::One("authorization".to_string())
}

fn bearer() -> String {
    "Bearer ".to_string()
}

fn yes() -> bool {
    true
}

fn scope_claims() -> Vec<String> {
    vec!["scope".to_string()]
}

fn consumer_claims() -> Vec<String> {
    vec!["sub".to_string()]
}

fn gateway() -> String {
    "gateway".to_string()
}

#[plugin]
impl Plugin for Introspection {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.check()?;
        http::granted(&config.upstream).map_err(|error| Error::msg(format_args!("upstream: {error}")))?;
        let endpoint = Endpoint::new(&config);
        let places = Places::new(config.header, config.prefix, config.query, config.cookie)?;
        let anonymous = config.anonymous.as_deref();
        let otherwise = anonymous.filter(|_| config.on_error == OnError::Allow);
        Ok(Introspection {
            gate: Gate::new(config.any, anonymous)?
                .on_preflight(config.run_on_preflight)
                .credentials(places, config.hide_credentials)
                .tells(config.headers.keys().cloned()),
            challenge: Bearer::new(
                &config.realm,
                &config.scopes,
                &config.any_scope,
                "introspection_unavailable",
            )?,
            endpoint,
            otherwise: otherwise.map(Identity::anonymous).transpose()?,
            issuer: config.issuer,
            audiences: config.audiences,
            rules: Rules {
                leeway: *config.leeway,
                required: config.required_claims,
                scopes: config.scopes,
                any_scope: config.any_scope,
                scope_claims: config.scope_claims,
                consumer_claims: config.consumer_claims,
                groups_claim: config.groups_claim,
                plan_claim: config.plan_claim,
                headers: config.headers,
                ..Rules::default()
            },
            failures: Counter::new("failures", &[])?,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.gate.enter(request)? {
            return Ok(Verdict::Next);
        }
        let token = match &self.gate.presented(request)[..] {
            [] => return self.gate.missing(request, self.challenge.answer(&Refusal::Missing)),
            [token] => self.ask(token),
            _ => Err(Refusal::Several),
        };
        let claims = match (token, &self.otherwise) {
            (Ok(claims), _) => claims,
            (Err(Refusal::Unavailable), Some(anonymous)) => return self.gate.pass(request, anonymous),
            (Err(refusal), _) => return self.gate.refuse(request, self.challenge.answer(&refusal)),
        };
        let passed = self.check(request, &claims).and_then(|()| {
            let identity = self.rules.identity(&claims)?;
            self.rules.pass(&self.gate, request, &claims, &identity)
        });
        passed.or_else(|refusal| {
            self.gate.refuse(request, self.rules.refuse(&self.challenge, &claims, refusal))
        })
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        if !self.path.starts_with('/') {
            return Err(Error::msg("path: has to begin with /"));
        }
        for (key, value) in [("client_id", &self.client_id), ("client_secret", &self.client_secret)] {
            if value.is_empty() {
                return Err(Error::msg(format_args!("{key}: is empty")));
            }
        }
        if self.anonymous.is_none() && self.on_error == OnError::Allow {
            return Err(Error::msg(
                "on_error: `allow` lets requests pass as `anonymous`, which is not given",
            ));
        }
        Ok(())
    }
}

impl Introspection {
    /// What its issuer says of a token that is active.
    fn ask(&self, token: &[u8]) -> Result<Claims, Refusal> {
        // RFC 6749, appendix A.12, without the space; nobody else need be asked about anything else.
        if token.len() > MAX_TOKEN || !token.iter().all(u8::is_ascii_graphic) {
            return Err(Refusal::Invalid(Why::MALFORMED));
        }
        let claims = self.endpoint.ask(token).map_err(|failure| {
            self.failures.add(1.0);
            log::warn!("{} cannot be asked about a token: {failure}", self.endpoint.upstream());
            Refusal::Unavailable
        })?;
        claims.ok_or(Refusal::Invalid(Why::INACTIVE))
    }

    fn check(&self, request: &Request, claims: &Claims) -> Result<(), Refusal> {
        let iss = claims.0.get("iss").and_then(Value::as_str);
        if self.issuer.is_some() && self.issuer.as_deref() != iss {
            return Err(Refusal::Invalid(Why::ISSUER));
        }
        if claims.0.get("cnf").is_some_and(|cnf| !is_confirmed(cnf, request)) {
            return Err(Refusal::Invalid(Why::BINDING));
        }
        self.rules.check(claims, &self.audiences)
    }
}

/// Whether the client has shown the certificate that the token is bound to (RFC 8705, section 3.2). A token that is bound to
/// something else cannot be checked, and is nobody's.
fn is_confirmed(cnf: &Value, request: &Request) -> bool {
    let bound = cnf.as_object().filter(|cnf| cnf.len() == 1).and_then(|cnf| cnf.get("x5t#S256"));
    let shown = request.tls().and_then(|tls| tls.client_certificate);
    let (Some(bound), Some(shown)) = (bound.and_then(Value::as_str), shown) else { return false };
    crypto::equal(URL_SAFE_NO_PAD.encode(crypto::digest(Hash::Sha256, shown)), bound)
}
