//! What a token says, and what it has to say.

use std::{collections::BTreeMap, time::Duration};

use wasmgate_sdk::{
    auth::Identity,
    clock,
    serde_json::{Map, Value},
};

use crate::{keys::Trusted, refusal::Refusal};

/// The claims of a token that was verified.
pub struct Claims(Map<String, Value>);

pub struct Rules {
    /// In seconds, as all times here.
    pub leeway: f64,
    pub require_exp: bool,
    pub max_lifetime: Option<f64>,
    pub required: BTreeMap<String, Value>,
    pub scopes: Vec<String>,
    pub any_scope: Vec<String>,
    pub scope_claims: Vec<String>,
    pub consumer_claims: Vec<String>,
    pub groups_claim: Option<String>,
    pub plan_claim: Option<String>,
    /// Sorted.
    pub revoked: Vec<String>,
}

impl Rules {
    pub fn check(&self, claims: Map<String, Value>, issuer: &Trusted) -> Result<Claims, Refusal> {
        let claims = Claims(claims);
        self.check_audience(&claims, issuer)?;
        self.check_times(&claims, clock::now())?;
        if claims.0.get("jti").and_then(Value::as_str).is_some_and(|jti| self.is_revoked(jti)) {
            return Err(Refusal::Invalid);
        }
        let has = |(path, wanted): (&String, &Value)| {
            claims.get(path).is_some_and(|found| *wanted == Value::Bool(true) || fits(found, wanted))
        };
        let scopes =
            self.scope_claims.iter().find_map(|name| claims.get(name)).map(words).unwrap_or_default();
        let all = self.scopes.iter().all(|scope| scopes.contains(scope));
        let any = self.any_scope.is_empty() || self.any_scope.iter().any(|scope| scopes.contains(scope));
        match self.required.iter().all(has) && all && any {
            true => Ok(claims),
            false => Err(Refusal::Insufficient),
        }
    }

    /// Whose it is; none where the token does not say.
    pub fn identity(&self, claims: &Claims) -> Option<Identity> {
        let consumer = self.consumer_claims.iter().find_map(|path| claims.text(path))?;
        let groups = self.groups_claim.as_ref().and_then(|path| claims.get(path)).map(words);
        Some(Identity {
            consumer,
            credential: claims.0.get("jti").and_then(Value::as_str).map(str::to_string),
            // One with a comma would be two for whoever reads the list.
            groups: groups.unwrap_or_default().into_iter().filter(|group| !group.contains(',')).collect(),
            plan: self.plan_claim.as_ref().and_then(|path| claims.text(path)),
            claims: Some(Value::Object(claims.0.clone()).to_string()),
            ..Identity::default()
        })
    }

    fn is_revoked(&self, jti: &str) -> bool {
        self.revoked.binary_search_by(|revoked| revoked.as_str().cmp(jti)).is_ok()
    }

    /// RFC 7519, section 4.1.3: whoever finds nothing of itself there has to refuse it.
    fn check_audience(&self, claims: &Claims, issuer: &Trusted) -> Result<(), Refusal> {
        let found = match claims.0.get("aud") {
            None => Vec::new(),
            Some(Value::String(audience)) => vec![audience.as_str()],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(_) => return Err(Refusal::Invalid),
        };
        let audiences = issuer.audiences();
        match audiences.is_empty() || audiences.iter().any(|audience| found.contains(&audience.as_str())) {
            true => Ok(()),
            false => Err(Refusal::Invalid),
        }
    }

    fn check_times(&self, claims: &Claims, now: Duration) -> Result<(), Refusal> {
        let now = now.as_secs_f64();
        let [exp, nbf, iat] = ["exp", "nbf", "iat"].map(|name| claims.time(name));
        let (exp, nbf, iat) = (exp?, nbf?, iat?);
        let is_early = [nbf, iat].into_iter().flatten().any(|begin| begin > now + self.leeway);
        if is_early || (exp.is_none() && self.require_exp) {
            return Err(Refusal::Invalid);
        }
        if exp.is_some_and(|end| end <= now - self.leeway) {
            return Err(Refusal::Expired);
        }
        match (self.max_lifetime, iat, exp) {
            (None, ..) => Ok(()),
            (Some(most), Some(begin), Some(end)) if end - begin <= most => Ok(()),
            _ => Err(Refusal::Invalid),
        }
    }
}

impl Claims {
    /// By its name, or by its path: names with dots between them.
    pub fn get(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(path) {
            return Some(value);
        }
        let mut names = path.split('.');
        let first = self.0.get(names.next()?)?;
        names.try_fold(first, |value, name| value.as_object()?.get(name))
    }

    /// As a header has it: lists with ", " between their members.
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

    /// Seconds since 1970 (NumericDate); an error where it is something else.
    fn time(&self, name: &str) -> Result<Option<f64>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().filter(|time| time.is_finite()).map(Some).ok_or(Refusal::Invalid),
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

/// A list, or a text with spaces between the words.
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
