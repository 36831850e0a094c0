//! What a cluster says about its endpoints: which one gets a request, how they are watched, and how much they get.

use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use serde_json::{Value, json};

use super::{
    output::{self, Keys},
    tree::Table,
};

/// Keys of `balance`, and those that it has besides where a route says what is hashed.
pub fn balance(cluster: &mut Table) -> (Keys, Option<Keys>) {
    let (mut keys, mut hash) = (Keys::new(), None);
    let place = cluster.at("lb_policy");
    let policy = cluster.take("lb_policy", |policy| {
        let known = ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"];
        known.into_iter().find(|known| policy == known)
    });
    match policy.unwrap_or("ROUND_ROBIN") {
        "LEAST_REQUEST" => {
            keys.insert("method", json!("least-request"));
            if let Some(mut config) = cluster.table("least_request_lb_config") {
                let choices = config.number_in("choice_count", 2..=32);
                keys.extend(choices.map(|count| ("choices", json!(count))));
                keys.extend(slow_start(&mut config));
            }
        }
        "ROUND_ROBIN" => {
            keys.extend(cluster.table("round_robin_lb_config").and_then(|mut config| slow_start(&mut config)))
        }
        "RANDOM" => drop(keys.insert("method", json!("random"))),
        table => {
            // As in Envoy where a route does not say what to hash.
            keys.insert("method", json!("random"));
            let (name, config) = match table {
                "RING_HASH" => ("ring", "ring_hash_lb_config"),
                _ => ("maglev", "maglev_lb_config"),
            };
            drop(cluster.table(config));
            hash = Some(Keys::from([("table", json!(name))]));
            let what = "a key stays at one endpoint, though not at the one that Envoy chooses for it";
            cluster.notes().caution(&place, what);
        }
    }
    if let Some(mut common) = cluster.table("common_lb_config") {
        let panic = common.percent("healthy_panic_threshold");
        keys.extend(panic.map(|percent| ("panic", json!(percent.round() as u8))));
        if let Some(hash) = &mut hash
            && let Some(mut hashing) = common.table("consistent_hashing_lb_config")
        {
            let bound = hashing.number_in("hash_balance_factor", 100..=10_000);
            hash.extend(bound.map(|percent| ("bound", json!(f64::from(percent) / 100.0))));
        }
    }
    (keys, hash)
}

fn slow_start(config: &mut Table) -> Option<(&'static str, Value)> {
    let window = config.table("slow_start_config")?.time("slow_start_window")?;
    Some(("slow_start", output::duration(window)))
}

/// `port` is that of the endpoints.
pub fn health(cluster: &mut Table, name: &str, port: Option<u16>) -> Keys {
    let mut checks = cluster.tables("health_checks").into_iter();
    let Some(mut check) = checks.next() else { return Keys::new() };
    checks.for_each(|further| further.leave("a further check; an upstream has one"));
    let Some(mut keys) = probe(&mut check, name) else {
        check.leave("a check that is neither of HTTP nor of gRPC nor of TCP");
        return Keys::new();
    };
    // As with Envoy, nobody is healthy who was not checked.
    keys.insert("initial", json!("unhealthy"));
    let port = check.number_in("alt_port", 1..=65_535).or(port.map(u32::from));
    keys.extend(port.map(|port| ("port", json!(port))));
    let interval = check.time("interval");
    let times = [
        ("timeout", check.time("timeout")),
        ("interval", interval),
        ("unhealthy_interval", check.time("unhealthy_interval")),
    ];
    keys.extend(times.into_iter().filter_map(|(key, time)| Some((key, output::duration(time?)))));
    keys.insert("jitter", json!(jitter(&mut check, interval.unwrap_or(Duration::from_secs(10)))));
    let counts = [("successes", "healthy_threshold"), ("failures", "unhealthy_threshold")];
    for (key, name) in counts {
        keys.extend(check.number_in(name, 1..=u32::MAX).map(|count| (key, json!(count))));
    }
    check.skip_if("reuse_connection", &["false"]);
    keys
}

/// A percentage of the interval.
fn jitter(check: &mut Table, interval: Duration) -> u8 {
    let place = check.at("interval_jitter");
    let time = check.duration("interval_jitter").unwrap_or_default();
    let percent = time.as_secs_f64() / interval.as_secs_f64() * 100.0
        + f64::from(check.number_in("interval_jitter_percent", 0..=u32::MAX).unwrap_or(0));
    if percent > 100.0 {
        check.notes().caution(&place, "at most the interval itself is added to it");
    }
    percent.round().min(100.0) as u8
}

fn probe(check: &mut Table, cluster: &str) -> Option<Keys> {
    if let Some(mut http) = check.table("http_health_check") {
        return Some(http_probe(&mut http, cluster));
    }
    if let Some(mut grpc) = check.table("grpc_health_check") {
        let mut keys = Keys::from([("kind", json!("grpc"))]);
        let service = grpc.text("service_name").filter(|service| !service.is_empty());
        keys.extend(service.map(|service| ("service", json!(service))));
        keys.extend(host(&mut grpc, "authority", cluster));
        return Some(keys);
    }
    check.table("tcp_health_check").map(|_| Keys::from([("kind", json!("tcp"))]))
}

fn http_probe(http: &mut Table, cluster: &str) -> Keys {
    let mut keys = Keys::from([("kind", json!("http"))]);
    // A check speaks what requests do.
    http.skip_if("codec_client_type", &["HTTP1", "HTTP2"]);
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"];
    let method = http.take("method", |method| methods.into_iter().find(|known| method == known));
    keys.extend(method.map(|method| ("method", json!(method))));
    let path = http.take("path", |path| {
        let path = path.as_str().filter(|path| path.starts_with('/'))?;
        path.parse::<PathAndQuery>().is_ok().then(|| path.to_owned())
    });
    keys.extend(path.map(|path| ("path", json!(path))));
    keys.extend(host(http, "host", cluster));
    http.leave_entry("request_headers_to_add", "header fields of a check; write them as its `headers`");
    let expected = http.tables("expected_statuses").into_iter().filter_map(statuses);
    let expected: Vec<_> = expected.collect();
    keys.insert("status", if expected.is_empty() { json!(["200"]) } else { json!(expected) });
    // Every status counts as those do.
    http.skip(&["retriable_statuses"]);
    let what = "another status counts as one failure of `failures`; Envoy takes the endpoint out at once";
    http.notes().caution(http.path(), what);
    keys
}

/// Half open, as Envoy's ranges are.
fn statuses(mut range: Table) -> Option<String> {
    let (start, end) = (range.number("start")?, range.number("end")?);
    if !(100..end).contains(&start) || end > 600 {
        range.leave("statuses that are not between 100 and 599");
        return None;
    }
    Some(if start + 1 == end { start.to_string() } else { format!("{start}-{}", end - 1) })
}

/// The Host of checks, by default the cluster's name.
fn host(table: &mut Table, key: &str, cluster: &str) -> Option<(&'static str, Value)> {
    table.skip_if(key, &[""]);
    let host = table.take(key, |host| literal_host(host.as_str()?));
    let host = if table.has(key) { None } else { host.or_else(|| literal_host(cluster)) };
    host.map(|host| ("host", json!(host)))
}

/// A Host that is not one of the words with a meaning of their own.
pub fn literal_host(host: &str) -> Option<String> {
    let literal = !host.contains('@') && !["preserve", "upstream"].contains(&host);
    (literal && host.parse::<Authority>().is_ok()).then(|| host.to_owned())
}

/// What is not said is Envoy's default, of which most differ from ours.
pub fn outliers(cluster: &mut Table) -> Keys {
    let Some(mut table) = cluster.table("outlier_detection") else { return Keys::new() };
    let table = &mut table;
    table.skip_if("split_external_local_origin_errors", &["false"]);
    table.skip_if("always_eject_one_host", &["false"]);
    table.skip_if("successful_active_health_check_uneject_host", &["true"]);
    let mut number = |name: &str, usual| table.number_in(name, 0..=u32::MAX).unwrap_or(usual);
    let (errors, failures) = (number("consecutive_5xx", 5), number("consecutive_gateway_failure", 5));
    let success_rate = json!({
        "endpoints": number("success_rate_minimum_hosts", 5).max(2),
        "requests": number("success_rate_request_volume", 100).max(1),
        "factor": f64::from(number("success_rate_stdev_factor", 1900)) / 1000.0,
    });
    let failure_rate = json!({
        "percent": number("failure_percentage_threshold", 85).clamp(1, 100),
        "requests": number("failure_percentage_request_volume", 50).max(1),
    });
    let ejected = number("max_ejection_percent", 10).min(100);
    let mut keys = Keys::from([("max_ejected", json!(ejected)), ("failures", json!(0))]);
    if is_enforced(table, "enforcing_consecutive_5xx", 100) {
        keys.insert("errors", json!(errors));
    }
    if is_enforced(table, "enforcing_consecutive_gateway_failure", 0) {
        keys.insert("failures", json!(failures));
    }
    if is_enforced(table, "enforcing_success_rate", 100) {
        keys.insert("success_rate", success_rate);
    }
    let place = table.at("failure_percentage_minimum_hosts");
    let endpoints = table.number("failure_percentage_minimum_hosts").unwrap_or(5);
    if is_enforced(table, "enforcing_failure_percentage", 0) {
        keys.insert("failure_rate", failure_rate);
        let what =
            format!("the rate of failures counts however few endpoints there are, not only with {endpoints}");
        table.notes().caution(&place, &what);
    }
    let ejection = table.time("base_ejection_time");
    let longest = ejection.filter(|time| *time > Duration::from_secs(300));
    let times = [
        ("interval", table.time("interval")),
        ("ejection", ejection),
        ("max_ejection", table.time("max_ejection_time").or(longest)),
    ];
    keys.extend(times.into_iter().filter_map(|(key, time)| Some((key, output::duration(time?)))));
    keys
}

/// Whether it takes endpoints out, which Envoy may leave to chance.
fn is_enforced(table: &mut Table, name: &str, usual: u64) -> bool {
    let place = table.at(name);
    let percent = table.number(name).unwrap_or(usual);
    if (1..100).contains(&percent) {
        let what = format!("it always takes an endpoint out, and not only {percent} times of 100");
        table.notes().caution(&place, &what);
    }
    percent > 0
}

/// Keys of `limits`, and those of `retry` that a cluster has.
pub fn limits(cluster: &mut Table) -> (Keys, Keys) {
    let (mut limits, mut retry) = (Keys::new(), Keys::new());
    let breakers = cluster.table("circuit_breakers");
    let mut found = false;
    for mut table in breakers.map(|mut breakers| breakers.tables("thresholds")).into_iter().flatten() {
        table.skip_if("priority", &["DEFAULT"]);
        if table.has("priority") || found {
            table.leave("thresholds of another priority; here requests have none");
            continue;
        }
        found = true;
        table.skip(&["track_remaining"]);
        for (key, name, least, usual) in [
            ("connections", "max_connections", 1, 1024),
            ("pending", "max_pending_requests", 0, 1024),
            ("requests", "max_requests", 1, 1024),
        ] {
            limits.extend(limit(&mut table, name, least, usual).map(|most| (key, json!(most))));
        }
        let place = table.at("retry_budget");
        match table.table("retry_budget") {
            Some(mut budget) => {
                let percent = budget.percent("budget_percent").unwrap_or(20.0);
                retry.insert("budget", json!({ "percent": percent }));
                let what = "a share of the requests of the last ten seconds, not of those under way";
                table.notes().caution(&place, what);
                table.leave_entry("max_retries", "in Envoy too the `retry_budget` stands in its place");
            }
            None => {
                limits.extend(limit(&mut table, "max_retries", 0, 3).map(|most| ("retries", json!(most))))
            }
        }
    }
    (limits, retry)
}

/// None where it is not to be one.
fn limit(table: &mut Table, name: &str, least: u32, usual: u32) -> Option<u32> {
    let most = table.number_in(name, least..=u32::MAX);
    let most = if table.has(name) { None } else { Some(most.unwrap_or(usual)) };
    most.filter(|most| *most < u32::MAX)
}
