//! What a token says (RFC 7519, section 4), and what it has to say.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Bearer, Gate, Identity, Refusal, is_identity};
use crate::audit::{Reason, Why};
use crate::{HeaderName, LocalResponse, Request, Verdict, clock};

/// The claims of a token.
///
/// ```
/// use wasmgate_sdk::{auth::{Claims, strict_object}, serde_json::json};
///
/// let claims = Claims(strict_object(br#"{"sub": "alice", "realm": {"roles": ["a", "b"]}}"#).unwrap());
/// assert_eq!(claims.get("realm.roles"), Some(&json!(["a", "b"])));
/// assert_eq!(claims.text("realm.roles").as_deref(), Some("a, b"));
/// assert_eq!(claims.words("sub"), ["alice"]);
/// assert_eq!(claims.time("exp"), Ok(None));
/// assert_eq!(claims.time("sub"), Err(wasmgate_sdk::auth::Refusal::Invalid(wasmgate_sdk::audit::Why::MALFORMED)));
/// ```
pub struct Claims(pub Map<String, Value>);

/// What claims have to say, and which of them say whose a request is.
///
/// ```
/// use wasmgate_sdk::{audit::Why, auth::{Bearer, Claims, Gate, Refusal, Rules, strict_object}, testing};
///
/// let rules = Rules { scopes: vec!["read".into()], consumer_claims: vec!["sub".into()], ..Rules::default() };
/// let claims = |json: &str| Claims(strict_object(json.as_bytes()).unwrap());
/// let exchange = testing::Request::get("/").header("x-consumer-id", "root").build();
/// testing::Host::new().enter(|| {
///     let alice = claims(r#"{"sub": "alice", "aud": "api", "scope": "read write"}"#);
///     assert_eq!(rules.check(&alice, &["api".to_string()]), Err(Refusal::Insufficient(Why::SCOPE)), "no claim lists scopes");
///     let rules = Rules { scope_claims: vec!["scope".into()], ..rules };
///     assert_eq!(rules.check(&alice, &["api".to_string()]), Ok(()));
///     assert_eq!(rules.check(&alice, &["web".to_string()]), Err(Refusal::Invalid(Why::AUDIENCE)));
///     assert_eq!(rules.check(&claims(r#"{"exp": 1}"#), &[]), Err(Refusal::Invalid(Why::EXPIRED)));
///     let bearer = Bearer::new("api", &[], &[], "keys_unavailable").unwrap();
///     let reason = rules.refuse(&bearer, &alice, Refusal::Invalid(Why::EXPIRED)).reason.unwrap();
///     assert_eq!(reason.consumer.as_deref(), Some("alice"));
///     let gate = Gate::new(false, None).unwrap().tells(rules.headers.keys().cloned());
///     assert!(gate.enter(&exchange.request()).unwrap());
///     let identity = rules.identity(&alice).unwrap();
///     rules.pass(&gate, &exchange.request(), &alice, &identity).unwrap();
/// });
/// assert_eq!(exchange.request().header_str("x-consumer-id").as_deref(), Some("alice"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Whether there has to be an end (exp).
    pub require_exp: bool,
    /// Longest time from iat to exp.
    pub max_lifetime: Option<Duration>,
    /// What claims have to be, by their paths: a value, a list of which one has to be there, or true for any but false.
    pub required: BTreeMap<String, Value>,
    /// Scopes that have to be there, all of them.
    pub scopes: Vec<String>,
    /// Scopes of which one has to be there.
    pub any_scope: Vec<String>,
    /// Claims that list the scopes; the first that is there counts.
    pub scope_claims: Vec<String>,
    /// Claims that name the consumer; the first that is there counts.
    pub consumer_claims: Vec<String>,
    /// Claim that lists the consumer's groups.
    pub groups_claim: Option<String>,
    /// Claim that names the consumer's plan.
    pub plan_claim: Option<String>,
    /// Headers that tell the upstream claims, by their paths.
    pub headers: BTreeMap<HeaderName, String>,
}

impl Rules {
    /// Whether the claims say what they have to: audience, times, required claims and scopes. The example is that of the
    /// type.
    pub fn check(&self, claims: &Claims, audiences: &[String]) -> Result<(), Refusal> {
        self.check_audience(claims, audiences)?;
        self.check_times(claims, clock::now())?;
        let has = |(path, wanted): (&String, &Value)| {
            claims.get(path).is_some_and(|found| match wanted {
                Value::Bool(true) => !matches!(found, Value::Bool(false) | Value::Null),
                wanted => fits(found, wanted),
            })
        };
        let scopes =
            self.scope_claims.iter().find_map(|name| claims.get(name)).map(words).unwrap_or_default();
        let all = self.scopes.iter().all(|scope| scopes.contains(scope));
        let any = self.any_scope.is_empty() || self.any_scope.iter().any(|scope| scopes.contains(scope));
        match (self.required.iter().all(has), all && any) {
            (true, true) => Ok(()),
            (false, _) => Err(Refusal::Insufficient(Why::CLAIMS)),
            (_, false) => Err(Refusal::Insufficient(Why::SCOPE)),
        }
    }

    /// Lets the request pass, and tells the upstream and the plugins behind whose it is, and the claims. Errors: no header can
    /// hold them; then nothing is told. The example is that of the type.
    pub fn pass(
        &self,
        gate: &Gate,
        request: &Request,
        claims: &Claims,
        identity: &Identity,
    ) -> Result<Verdict, Refusal> {
        let told = self.headers.iter().filter_map(|(name, path)| Some((name, claims.text(path)?)));
        let told: Vec<_> = told.collect();
        // What no header can hold is nobody's name, and nobody's claim.
        if told.iter().any(|(name, value)| request.set_header(name, value).is_err()) {
            self.headers.keys().for_each(|name| _ = request.remove_header(name));
            return Err(Refusal::Invalid(Why::NO_CONSUMER));
        }
        let untold = |_| Refusal::Invalid(Why::NO_CONSUMER);
        let verdict = gate.pass(request, identity).map_err(untold)?;
        // What the config wants there in place of the consumer.
        for (name, value) in told.iter().filter(|(name, _)| is_identity(name)) {
            request.set_header(name, value).map_err(|_| Refusal::Invalid(Why::NO_CONSUMER))?;
        }
        Ok(verdict)
    }

    /// The refusal of a token that its issuer has made sure of; the audit is told whose it is. The example is that of the type.
    pub fn refuse(&self, bearer: &Bearer, claims: &Claims, refusal: Refusal) -> LocalResponse {
        let answer = bearer.answer(&refusal);
        match self.identity(claims) {
            Ok(identity) => answer.why(Reason::new(refusal.why()).whose(&identity)),
            Err(_) => answer,
        }
    }

    /// Whose the claims say the request is. Errors: they do not say. The example is that of the type.
    pub fn identity(&self, claims: &Claims) -> Result<Identity, Refusal> {
        let consumer = self.consumer_claims.iter().find_map(|path| claims.text(path));
        let consumer = consumer.ok_or(Refusal::Invalid(Why::NO_CONSUMER))?;
        let groups = self.groups_claim.as_ref().map(|path| claims.words(path)).unwrap_or_default();
        Ok(Identity {
            consumer,
            credential: claims.0.get("jti").and_then(Value::as_str).map(str::to_string),
            // One with a comma would be two for whoever reads the list.
            groups: groups.into_iter().filter(|group| !group.contains(',')).collect(),
            plan: self.plan_claim.as_ref().and_then(|path| claims.text(path)),
            claims: Some(Value::Object(claims.0.clone()).to_string()),
            ..Identity::default()
        })
    }

    /// RFC 7519, section 4.1.3: whoever finds nothing of itself there has to refuse it.
    fn check_audience(&self, claims: &Claims, audiences: &[String]) -> Result<(), Refusal> {
        let found = match claims.0.get("aud") {
            None => Vec::new(),
            Some(Value::String(audience)) => vec![audience.as_str()],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(_) => return Err(Refusal::Invalid(Why::MALFORMED)),
        };
        match audiences.is_empty() || audiences.iter().any(|audience| found.contains(&audience.as_str())) {
            true => Ok(()),
            false => Err(Refusal::Invalid(Why::AUDIENCE)),
        }
    }

    fn check_times(&self, claims: &Claims, now: Duration) -> Result<(), Refusal> {
        let (now, leeway) = (now.as_secs_f64(), self.leeway.as_secs_f64());
        let [exp, nbf, iat] = ["exp", "nbf", "iat"].map(|name| claims.time(name));
        let (exp, nbf, iat) = (exp?, nbf?, iat?);
        let is_early = [nbf, iat].into_iter().flatten().any(|begin| begin > now + leeway);
        if is_early {
            return Err(Refusal::Invalid(Why::NOT_YET));
        }
        if exp.is_none() && self.require_exp {
            return Err(Refusal::Invalid(Why::LIFETIME));
        }
        if exp.is_some_and(|end| end <= now - leeway) {
            return Err(Refusal::Invalid(Why::EXPIRED));
        }
        match (self.max_lifetime, iat, exp) {
            (None, ..) => Ok(()),
            (Some(most), Some(begin), Some(end)) if end - begin <= most.as_secs_f64() => Ok(()),
            _ => Err(Refusal::Invalid(Why::LIFETIME)),
        }
    }
}

impl Claims {
    /// By its name, or by its path: names with dots between them. The example is that of the type.
    pub fn get(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(path) {
            return Some(value);
        }
        let mut names = path.split('.');
        let first = self.0.get(names.next()?)?;
        names.try_fold(first, |value, name| value.as_object()?.get(name))
    }

    /// As a header has it: lists with ", " between their members. The example is that of the type.
    pub fn text(&self, path: &str) -> Option<String> {
        match self.get(path)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            Value::Array(list) if list.iter().all(|value| value.is_string()) => {
                Some(words_of(list).join(", "))
            }
            other => Some(other.to_string()),
        }
    }

    /// The members of a list, or of a text with spaces between them. The example is that of the type.
    pub fn words(&self, path: &str) -> Vec<String> {
        self.get(path).map(words).unwrap_or_default()
    }

    /// Seconds since 1970 (NumericDate); an error where it is something else. The example is that of the type.
    pub fn time(&self, name: &str) -> Result<Option<f64>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => {
                let time = value.as_f64().filter(|time| time.is_finite());
                time.map(Some).ok_or(Refusal::Invalid(Why::MALFORMED))
            }
        }
    }
}

/// Whether it is one of those that are wanted, or holds one.
fn fits(found: &Value, wanted: &Value) -> bool {
    let is_wanted = |value: &Value| match wanted {
        Value::Array(any) => any.contains(value),
        one => one == value,
    };
    match found {
        Value::Array(list) => list.iter().any(is_wanted),
        one => is_wanted(one),
    }
}

fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split_ascii_whitespace().map(str::to_string).collect(),
        Value::Array(list) => words_of(list),
        _ => Vec::new(),
    }
}

fn words_of(list: &[Value]) -> Vec<String> {
    list.iter().filter_map(Value::as_str).map(str::to_string).collect()
}
