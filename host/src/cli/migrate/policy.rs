//! What routes and virtual hosts say about attempts, copies and hashes.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{
    output::{self, Keys},
    resilience::literal_host,
    tree::Table,
};

/// What a level says; of each the closest to the route counts, as a whole.
#[derive(Clone, Default)]
pub struct Policies {
    retry: Option<Retry>,
    /// Whether an attempt that takes long goes on beside the next one.
    hedges: Option<bool>,
    /// None in it is one that could not be carried over.
    pub mirror: Option<Option<Mirror>>,
}

#[derive(Clone)]
struct Retry {
    keys: Keys,
    per_try: Option<Duration>,
}

#[derive(Clone)]
pub struct Mirror {
    pub cluster: String,
    pub host: Option<String>,
    percent: Option<f64>,
}

/// What keeps a client at its endpoint.
#[derive(Clone, PartialEq)]
pub enum Affinity {
    /// As `key` of balance has it.
    Key(String),
    /// Keys of `sticky`.
    Cookie(Keys),
}

impl Policies {
    pub fn take(table: &mut Table) -> Self {
        Policies {
            retry: table.table("retry_policy").map(retry),
            hedges: table.table("hedge_policy").map(hedges),
            mirror: mirrors(table),
        }
    }

    pub fn or(self, above: &Policies) -> Self {
        let above = above.clone();
        Policies {
            retry: self.retry.or(above.retry),
            hedges: self.hedges.or(above.hedges),
            mirror: self.mirror.or(above.mirror),
        }
    }

    /// Keys of `retry`.
    pub fn retry(&self) -> Keys {
        let Some(Retry { mut keys, per_try }) = self.retry.clone() else { return Keys::new() };
        let key = match keys.get_mut("on") {
            // Then no attempt ends because it takes long.
            Some(Value::Array(on)) if self.hedges == Some(true) => {
                on.retain(|condition| condition != "timeout");
                "hedge"
            }
            _ => "per_try",
        };
        keys.extend(per_try.map(|time| (key, output::duration(time))));
        keys
    }
}

/// The longest body that Envoy keeps unless it is told otherwise.
const KEPT_BODY: &str = "1MiB";

/// What is asked for by a word of `retry_on`. Streams that are refused are HTTP/2's.
fn conditions(word: &str) -> Option<&'static [&'static str]> {
    Some(match word {
        "5xx" => &["5xx", "reset", "connect-failure"],
        "gateway-error" => &["gateway-error", "reset", "connect-failure"],
        "reset" => &["reset", "connect-failure"],
        "connect-failure" => &["connect-failure"],
        "retriable-4xx" => &["retriable-4xx"],
        "refused-stream" => &[],
        _ => return None,
    })
}

fn retry(mut table: Table) -> Retry {
    let (mut on, mut headers) = (Vec::<String>::new(), Vec::new());
    let per_try = table.time("per_try_timeout");
    let place = table.at("retry_on");
    let words = table.text("retry_on").unwrap_or_default();
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match (word, conditions(word)) {
            (_, Some(conditions)) => on.extend(conditions.iter().map(|&condition| condition.to_owned())),
            ("retriable-status-codes", _) => on.extend(statuses(&mut table)),
            ("retriable-headers", _) => {
                headers.extend(table.tables("retriable_headers").into_iter().filter_map(header));
            }
            _ => table.notes().left(&place, &format!("{word:?}, which is nothing to try again after here")),
        }
    }
    if per_try.is_some() && on.iter().any(|condition| condition == "reset") {
        on.push("timeout".to_owned());
    }
    on.sort();
    on.dedup();
    let retries = table.number("num_retries").unwrap_or(1);
    if retries > 19 {
        table.notes().caution(table.path(), "there are 20 attempts at most");
    }
    // Envoy tries again what may not be idempotent, too.
    let repeats = !headers.is_empty() || on.iter().any(|condition| condition != "connect-failure");
    let attempts = if repeats || !on.is_empty() { retries.min(19) + 1 } else { 1 };
    let mut keys = Keys::from([("attempts", json!(attempts))]);
    let pauses = table.table("retry_back_off").map(back_off).unwrap_or_default();
    if attempts > 1 {
        keys.insert("on", json!(on));
        keys.extend((!headers.is_empty()).then(|| ("headers", json!(headers))));
        if repeats {
            keys.extend([("non_idempotent", json!(true)), ("body", json!(KEPT_BODY))]);
        }
        keys.extend(pauses);
    }
    other_endpoints(&mut table);
    Retry { keys, per_try }
}

fn back_off(mut table: Table) -> Vec<(&'static str, Value)> {
    let Some(base) = table.time("base_interval") else { return Vec::new() };
    let longest = table.time("max_interval").unwrap_or(base.saturating_mul(10));
    vec![("back_off", output::duration(base)), ("max_back_off", output::duration(longest))]
}

/// Those that can be said, or none.
fn statuses(table: &mut Table) -> Vec<String> {
    let statuses = table.take("retriable_status_codes", |statuses| {
        let statuses = statuses.as_array()?.iter();
        let in_range = |status: &Value| status.as_u64().filter(|status| (400..=599).contains(status));
        statuses.map(|status| Some(in_range(status)?.to_string())).collect()
    });
    statuses.unwrap_or_default()
}

/// A header that an answer has, with whatever value.
fn header(mut table: Table) -> Option<String> {
    let name = table.take("name", |name| name.as_str()?.parse::<HeaderName>().ok())?;
    table.skip_if("present_match", &["true"]);
    if !table.is_empty() {
        table.leave("a header by its value; its presence can be asked for");
        return None;
    }
    Some(name.to_string())
}

/// Another attempt goes to another endpoint anyway.
fn other_endpoints(table: &mut Table) {
    for mut predicate in table.tables("retry_host_predicate") {
        match predicate.kind() {
            "PreviousHostsPredicate" | "previous_hosts" => predicate.skip(&["name", "typed_config"]),
            _ => predicate.leave("which endpoints are tried; another attempt goes to another one"),
        }
    }
    table.skip(&["host_selection_retry_max_attempts"]);
}

fn hedges(mut table: Table) -> bool {
    table.skip_if("initial_requests", &["1"]);
    let hedges = table.flag("hedge_on_per_try_timeout").unwrap_or(false);
    if hedges {
        let what = "after `per_try_timeout` one further endpoint is asked, and not one after the other";
        table.notes().caution(table.path(), what);
    }
    hedges
}

fn mirrors(table: &mut Table) -> Option<Option<Mirror>> {
    let mut policies = table.tables("request_mirror_policies").into_iter();
    let first = policies.next()?;
    policies.for_each(|further| further.leave("a further mirror; a route has one"));
    Some(mirror(first))
}

fn mirror(mut policy: Table) -> Option<Mirror> {
    let Some(cluster) = policy.text("cluster").filter(|cluster| !cluster.is_empty()) else {
        policy.leave("a mirror that the request names");
        return None;
    };
    let host = policy.take("host_rewrite_literal", |host| literal_host(host.as_str()?));
    if policy.flag("disable_shadow_host_suffix_append") != Some(true) && host.is_none() {
        let what = "copies have the Host of the request, without -shadow at its end, and X-Gateway-Mirror: 1";
        policy.notes().caution(policy.path(), what);
    }
    let percent = policy.table("runtime_fraction").and_then(fraction);
    Some(Mirror { cluster, host, percent })
}

impl Mirror {
    /// Envoy copies every request as it is.
    pub fn keys(&self, upstream: String) -> Keys {
        let methods = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];
        let mut keys = Keys::from([
            ("upstream", json!(upstream)),
            ("methods", json!(methods)),
            ("credentials", json!(true)),
        ]);
        keys.extend(self.percent.map(|percent| ("percent", json!(percent))));
        keys
    }
}

/// In percent.
fn fraction(mut table: Table) -> Option<f64> {
    let mut value = table.table("default_value")?;
    let part = value.take("denominator", |of| match of.as_str()? {
        "HUNDRED" => Some(1.0),
        "TEN_THOUSAND" => Some(100.0),
        "MILLION" => Some(10_000.0),
        _ => None,
    });
    let numerator = value.number_in("numerator", 0..=u32::MAX).unwrap_or(0);
    Some((f64::from(numerator) / part.unwrap_or(1.0)).min(100.0))
}

/// The first part of `hash_policy` that can be one.
pub fn affinity(route: &mut Table) -> Option<Affinity> {
    let mut found = None;
    for mut policy in route.tables("hash_policy") {
        policy.skip_if("terminal", &["false", "true"]);
        match found {
            None => found = hashed(&mut policy),
            Some(_) => policy.leave("a further part of what is hashed; here it is one"),
        }
    }
    found
}

fn hashed(policy: &mut Table) -> Option<Affinity> {
    if let Some(mut header) = policy.table("header") {
        let name = header.take("header_name", |name| name.as_str()?.parse::<HeaderName>().ok())?;
        header.leave_entry("regex_rewrite", "a part of the value; the whole value is hashed");
        return Some(Affinity::Key(format!("header:{name}")));
    }
    if let Some(mut query) = policy.table("query_parameter") {
        let name = query.text("name").filter(|name| !name.is_empty())?;
        return Some(Affinity::Key(format!("query:{name}")));
    }
    if let Some(cookie) = policy.table("cookie") {
        return hashed_cookie(cookie);
    }
    policy.leave_entry(
        "filter_state",
        "a value that a filter has set; see `key` of balance for what can be hashed",
    );
    let from_ip = policy.table("connection_properties")?.flag("source_ip")?;
    from_ip.then(|| Affinity::Key("ip".to_owned()))
}

/// With a time Envoy sets the cookie.
fn hashed_cookie(mut cookie: Table) -> Option<Affinity> {
    let name = cookie.text("name").filter(|name| !name.is_empty())?;
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let age = if plain { cookie.duration("ttl") } else { None };
    let Some(age) = age else { return Some(Affinity::Key(format!("cookie:{name}"))) };
    let what = "the cookie names the endpoint; one that clients have from Envoy is replaced";
    cookie.notes().caution(cookie.path(), what);
    cookie.skip_if("path", &[""]);
    let path = cookie.take("path", |path| {
        let path = path.as_str().filter(|path| path.starts_with('/') && !path.contains([';', ',']))?;
        HeaderValue::from_str(path).is_ok().then(|| path.to_owned())
    });
    let mut keys = Keys::from([("cookie", json!(name))]);
    keys.extend(path.map(|path| ("path", json!(path))));
    keys.extend((!age.is_zero()).then(|| ("max_age", output::duration(age))));
    Some(Affinity::Cookie(keys))
}
