use std::time::Duration as Time;

use wasmgate_sdk::testing::{Host, Loaded, Outcome, Request};

use super::*;

const TWO: &str = r#""limit": {"rate": 2, "per": "1m"}"#;

fn load(host: &Host, more: &str) -> Loaded<RateLimit> {
    host.load(&format!("{{{TWO}{more}}}")).unwrap()
}

fn get(ip: &str) -> Request {
    Request::get("/a").client_ip(ip)
}

fn header(outcome: &Outcome, name: &str) -> Option<String> {
    outcome.response().header_str(name)
}

#[test]
fn a_bucket_empties_and_fills_again() {
    let host = Host::new();
    let plugin = load(&host, "");
    assert!(plugin.send(get("192.0.2.1")).sent);
    let second = plugin.send(get("192.0.2.1"));
    assert!(second.sent);
    assert_eq!(header(&second, "x-ratelimit-limit").as_deref(), Some("2"));
    assert_eq!(header(&second, "x-ratelimit-remaining").as_deref(), Some("0"));
    assert_eq!(header(&second, "ratelimit-policy").as_deref(), Some("\"default\";q=2;w=60"));
    assert_eq!(header(&second, "ratelimit").as_deref(), Some("\"default\";r=0;t=60"));
    let third = plugin.send(get("192.0.2.1"));
    assert_eq!(third.response().status(), 429);
    assert_eq!(third.code.as_deref(), Some("rate_limited"));
    assert_eq!(header(&third, "retry-after").as_deref(), Some("30"));
    assert_eq!(header(&third, "x-ratelimit-remaining").as_deref(), Some("0"), "on the refusal, too");
    assert!(plugin.send(get("192.0.2.2")).sent, "another client has a bucket of its own");
    host.advance(Time::from_secs(30));
    assert!(plugin.send(get("192.0.2.1")).sent);
    assert!(!plugin.send(get("192.0.2.1")).sent);
    assert_eq!(host.metric("limited", &[]), Some(2.0));
}

#[test]
fn keys() {
    for (key, same, other) in [
        ("header:x-team", get("192.0.2.2").header("x-team", "a"), get("192.0.2.1").header("x-team", "b")),
        ("path", get("192.0.2.2"), Request::get("/b").client_ip("192.0.2.1")),
        ("const", Request::get("/b").client_ip("192.0.2.9"), get("192.0.2.1")),
        ("route", Request::get("/b").client_ip("192.0.2.9"), get("192.0.2.1")),
        ("ip", get("2001:db8::1").header("x", "y"), get("2001:db8:0:1::1")),
    ] {
        let host = Host::new();
        let plugin = load(&host, &format!(r#", "key": "{key}""#));
        let first = match key {
            "ip" => get("2001:db8::ffff"),
            _ => get("192.0.2.1").header("x-team", "a"),
        };
        assert!(plugin.send(first).sent);
        assert_eq!(header(&plugin.send(same), "x-ratelimit-remaining").as_deref(), Some("0"), "{key}");
        let shared = matches!(key, "const" | "route");
        assert_eq!(plugin.send(other).sent, !shared, "{key}");
    }
}

#[test]
fn what_is_missing_falls_back_to_the_address() {
    let host = Host::new();
    let plugin = load(&host, r#", "key": "consumer""#);
    for _ in 0..2 {
        assert!(plugin.send(get("192.0.2.1")).sent);
    }
    assert!(!plugin.send(get("192.0.2.1")).sent);
    assert!(plugin.send(get("192.0.2.1").var("consumer", "alice")).sent);
}

#[test]
fn plans_have_limits_of_their_own() {
    let host = Host::new();
    let plugin = load(&host, r#", "plans": {"pro": {"rate": 600, "per": "1m", "burst": 5}}"#);
    let outcome = plugin.send(get("192.0.2.1").var("plan", "pro"));
    assert_eq!(header(&outcome, "x-ratelimit-limit").as_deref(), Some("5"));
    assert_eq!(header(&outcome, "ratelimit-policy").as_deref(), Some("\"default\";q=600;w=60"));
}

#[test]
fn preflights_and_costs() {
    let host = Host::new();
    let plugin = load(&host, r#", "cost": 3, "headers": "none""#);
    let preflight = Request::new("OPTIONS", "/").header("access-control-request-method", "PUT");
    assert!(plugin.send(preflight).sent);
    let never = plugin.send(get("192.0.2.1"));
    assert_eq!(never.response().status(), 429);
    assert_eq!(header(&never, "retry-after"), None);
    assert_eq!(header(&never, "ratelimit"), None);
}

#[test]
fn mistakes_are_named() {
    let refusal = |text: &str| Host::new().load::<RateLimit>(text).err().unwrap().to_string();
    assert!(refusal("{}").contains("limit"));
    assert!(refusal(r#"{"limit": {"rate": 0, "per": "1m"}}"#).contains("limit"));
    assert!(refusal(r#"{"limit": {"rate": 1, "per": "90d"}}"#).contains("limit.per"));
    assert!(refusal(r#"{"limit": {"rate": 1, "per": 60}}"#).contains("limit.per"));
    assert!(refusal(&format!(r#"{{{TWO}, "key": "team"}}"#)).contains("key"));
    assert!(refusal(&format!(r#"{{{TWO}, "key": "header:a b"}}"#)).contains("key"));
    assert!(
        refusal(&format!(r#"{{{TWO}, "plans": {{"x": {{"rate": 0, "per": "1s"}}}}}}"#)).contains("plans.x")
    );
}
