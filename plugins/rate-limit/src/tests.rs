use std::time::Duration as Time;

use wasmgate_sdk::consumers::{Failure, Quota};
use wasmgate_sdk::testing::{Host, Loaded, Outcome, Request};

use super::*;

const TWO: &str = r#""limit": {"rate": 2, "per": "1m"}"#;

fn load(host: &Host, more: &str) -> Loaded<RateLimit> {
    host.load(&format!("{{{TWO}{more}}}")).unwrap()
}

fn get(ip: &str) -> Request {
    Request::get("/a").client_ip(ip)
}

fn preflight() -> Request {
    Request::new("OPTIONS", "/")
        .header("origin", "https://a.test")
        .header("access-control-request-method", "PUT")
}

fn header(outcome: &Outcome, name: &str) -> Option<String> {
    outcome.response().header_str(name)
}

fn remaining(outcome: &Outcome) -> Option<String> {
    header(outcome, "x-ratelimit-remaining")
}

#[test]
fn a_bucket_empties_and_fills_again() {
    let host = Host::new();
    let plugin = load(&host, "");
    assert!(plugin.send(get("192.0.2.1")).sent);
    assert!(plugin.send(get("192.0.2.1")).sent);
    assert!(!plugin.send(get("192.0.2.1")).sent);
    assert!(plugin.send(get("192.0.2.2")).sent, "another client has a bucket of its own");
    host.advance(Time::from_secs(30));
    assert!(plugin.send(get("192.0.2.1")).sent);
    assert!(!plugin.send(get("192.0.2.1")).sent);
    assert_eq!(host.metric("allowed", &[]), Some(4.0));
    assert_eq!(host.metric("limited", &[]), Some(2.0));
}

#[test]
fn every_answer_says_what_is_left() {
    let host = Host::new();
    let plugin = load(&host, "");
    let first = plugin.send(get("192.0.2.1"));
    assert_eq!(header(&first, "ratelimit").as_deref(), Some("\"default\";r=1;t=30"));
    assert_eq!((remaining(&first).as_deref(), header(&first, "retry-after")), (Some("1"), None));
    plugin.send(get("192.0.2.1"));
    host.advance(Time::from_millis(500));
    let refused = plugin.send(get("192.0.2.1"));
    assert_eq!(refused.response().status(), 429);
    assert_eq!(refused.code.as_deref(), Some("rate_limited"));
    assert_eq!(refused.answer.as_ref().unwrap().detail.as_deref(), Some("API rate limit exceeded"));
    assert_eq!(refused.reason, Some(Reason::new(Why::RATE_LIMITED).detail("default")));
    assert_eq!(first.reason, None);
    assert!(refused.response_body.is_empty(), "the gateway writes the body");
    for (name, value) in [
        ("ratelimit-policy", "\"default\";q=2;w=60"),
        ("ratelimit", "\"default\";r=0;t=60"),
        ("x-ratelimit-limit", "2"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "60"),
        ("retry-after", "30"),
    ] {
        assert_eq!(header(&refused, name).as_deref(), Some(value), "{name}");
    }
    host.advance(Time::from_millis(29_499));
    assert_eq!(header(&plugin.send(get("192.0.2.1")), "retry-after").as_deref(), Some("1"));
}

#[test]
fn of_nothing_nothing_is_left() {
    for algorithm in ["fixed-window", "sliding-log", "sliding-counter", "token-bucket", "leaky-bucket"] {
        let config = format!(r#"{{"algorithm": "{algorithm}", "limit": {{"rate": 0, "per": "1m"}}}}"#);
        let refused = Host::new().load::<RateLimit>(&config).unwrap().send(get("192.0.2.1"));
        assert_eq!(refused.response().status(), 429, "{algorithm}");
        let told = ["x-ratelimit-limit", "x-ratelimit-remaining"].map(|name| header(&refused, name));
        assert_eq!(told, [Some("0".to_string()), Some("0".to_string())], "{algorithm}");
    }
}

#[test]
fn the_headers_are_chosen() {
    for (headers, draft, x) in [("draft", true, false), ("x", false, true), ("none", false, false)] {
        let plugin = load(&Host::new(), &format!(r#", "headers": "{headers}""#));
        for status in [200, 200, 429] {
            let outcome = plugin.send(get("192.0.2.1"));
            assert_eq!(outcome.response().status(), status);
            assert_eq!(header(&outcome, "ratelimit").is_some(), draft, "{headers}");
            assert_eq!(header(&outcome, "ratelimit-policy").is_some(), draft);
            assert_eq!(header(&outcome, "x-ratelimit-reset").is_some(), x);
            assert_eq!(header(&outcome, "retry-after").is_some(), status == 429);
        }
    }
}

#[test]
fn the_burst_is_the_buckets_size() {
    let plugin = Host::new().load(r#"{"limit": {"rate": 60, "per": "1m", "burst": 3}}"#).unwrap();
    let outcome = Loaded::<RateLimit>::send(&plugin, get("192.0.2.1"));
    assert_eq!(header(&outcome, "x-ratelimit-limit").as_deref(), Some("3"));
    assert_eq!(remaining(&outcome).as_deref(), Some("2"));
    assert_eq!(header(&outcome, "ratelimit-policy").as_deref(), Some("\"default\";q=60;w=60"));
    assert_eq!(header(&outcome, "ratelimit").as_deref(), Some("\"default\";r=2;t=1"));
}

#[test]
fn a_request_may_cost_more() {
    let plugin = Host::new().load(r#"{"limit": {"rate": 60, "per": "1m", "burst": 5}, "cost": 3}"#).unwrap();
    assert_eq!(remaining(&plugin.send(get("192.0.2.1"))).as_deref(), Some("2"));
    let refused = Loaded::<RateLimit>::send(&plugin, get("192.0.2.1"));
    assert_eq!((refused.response().status(), remaining(&refused).as_deref()), (429, Some("2")));
    assert_eq!(header(&refused, "retry-after").as_deref(), Some("1"));
}

/// Whether two requests take from the same bucket.
fn share(more: &str, one: Request, other: Request) -> bool {
    let plugin = load(&Host::new(), more);
    plugin.send(one);
    remaining(&plugin.send(other)).unwrap() == "0"
}

fn team(ip: &str, team: &str) -> Request {
    get(ip).header("x-team", team)
}

#[test]
fn a_bucket_belongs_to_its_key() {
    let claims = |text| get("192.0.2.1").var("claims", text);
    let long = |end| Request::get(&format!("/{}{end}", "é".repeat(600)));
    for (key, one, other, expected) in [
        ("ip", get("192.0.2.1"), get("192.0.2.1").header("x", "y"), true),
        ("ip", get("192.0.2.1"), get("192.0.2.2"), false),
        ("consumer", get("192.0.2.1").var("consumer", "a"), get("192.0.2.2").var("consumer", "a"), true),
        ("consumer", get("192.0.2.1").var("consumer", "a"), get("192.0.2.1").var("consumer", "b"), false),
        ("consumer", get("192.0.2.1"), get("192.0.2.1"), true),
        ("consumer", get("192.0.2.1"), get("192.0.2.2"), false),
        ("header:X-Team", team("192.0.2.1", "a"), team("192.0.2.2", "a"), true),
        ("header:X-Team", team("192.0.2.1", "a"), team("192.0.2.1", "b"), false),
        ("header:X-Team", get("192.0.2.1"), get("192.0.2.2"), false),
        ("header:X-Team", get("192.0.2.1"), team("192.0.2.2", "ip:192.0.2.1"), false),
        ("header:X-Team", team("::1", &"a".repeat(9000)), team("::1", &"a".repeat(9001)), true),
        ("path", Request::get("/a?b"), Request::get("/a?c").client_ip("192.0.2.9"), true),
        ("path", Request::get("/a"), Request::get("/b"), false),
        ("path", long("a"), long("b"), true),
        ("route", Request::get("/a"), Request::get("/b").client_ip("192.0.2.9"), true),
        ("route", Request::get("/a"), Request::get("/a").route("b"), false),
        ("const", Request::get("/a"), Request::get("/b").client_ip("192.0.2.9"), true),
        ("credential", get("::1").var("credential", "a"), get("::2").var("credential", "a"), true),
        ("group", get("::1").var("groups", ""), get("192.0.2.2").var("groups", ""), false),
        ("group", get("::1").var("groups", "a,b"), get("::1").var("groups", "a"), false),
        ("cookie:s", get("::1").header("cookie", "s=1"), get("::2").header("cookie", "t=2; s=1"), true),
        ("cookie:s", get("::1").header("cookie", "s=1"), get("::1").header("cookie", "s=2"), false),
        ("claim:a.b", claims(r#"{"a":{"b":"x"}}"#), claims(r#"{"c":1,"a":{"b":"x"}}"#), true),
        ("claim:a.b", claims(r#"{"a":{"b":"x"}}"#), claims(r#"{"a":{"b":"y"}}"#), false),
        ("claim:a.b", claims("{"), claims(r#"{"a":1}"#), true),
        ("{consumer}/{path}", get("::1").var("consumer", "a"), get("::2").var("consumer", "a"), true),
        ("{consumer}/{path}", get("::1").var("consumer", "a"), get("::1").var("consumer", "b"), false),
    ] {
        assert_eq!(share(&format!(r#", "key": "{key}""#), one, other), expected, "{key}");
    }
    let both = r#", "key": ["consumer", "header:x-team"]"#;
    let of = |consumer, value| team("192.0.2.1", value).var("consumer", consumer);
    assert!(share(both, of("a", "x"), of("a", "x")));
    assert!(!share(both, of("a", "x"), of("a", "y")) && !share(both, of("a", "x"), of("b", "x")));
}

#[test]
fn an_ipv6_client_is_a_network() {
    let first = "2001:db8:0:1::1";
    for (prefix, other, expected) in [
        (64, "2001:db8:0:1:ffff::1", true),
        (64, "2001:db8:0:2::1", false),
        (48, "2001:db8:0:2::1", true),
        (128, "2001:db8:0:1::1", true),
        (128, "2001:db8:0:1::2", false),
        (0, "fe80::1", true),
        (0, "192.0.2.1", false),
    ] {
        let more = format!(r#", "ipv6_prefix": {prefix}"#);
        assert_eq!(share(&more, get(first), get(other)), expected, "{other}/{prefix}");
    }
    assert!(share("", get("::ffff:192.0.2.1"), get("192.0.2.1")), "the same client");
    assert!(!share("", get("::ffff:192.0.2.1"), get("::ffff:192.0.2.2")));
}

#[test]
fn routes_count_for_themselves_or_together() {
    let requests = || (get("192.0.2.1").route("a"), get("192.0.2.1").route("b"));
    let (a, b) = requests();
    assert!(!share("", a, b));
    let (a, b) = requests();
    assert!(share(r#", "scope": "global""#, a, b));
}

#[test]
fn plans_have_limits_of_their_own() {
    let host = Host::new();
    let plugin = load(&host, r#", "plans": {"pro": {"rate": 600, "per": "1m", "burst": 5}}"#);
    let outcome = plugin.send(get("192.0.2.1").var("plan", "pro"));
    assert_eq!(header(&outcome, "x-ratelimit-limit").as_deref(), Some("5"));
    assert_eq!(header(&outcome, "ratelimit-policy").as_deref(), Some("\"default\";q=600;w=60"));
    for request in [get("192.0.2.1").var("plan", "free"), get("192.0.2.1")] {
        assert_eq!(header(&plugin.send(request), "x-ratelimit-limit").as_deref(), Some("2"));
    }
}

#[test]
fn the_plans_of_consumers_are_the_gateway_s() {
    let quota = |rate, seconds| Quota { rate, per: Time::from_secs(seconds) };
    let host = Host::new().plan("free", &[quota(60, 60), quota(2, 86400)]).plan("endless", &[]);
    let config =
        r#"{"consumer_plans": true, "algorithm": "fixed-window", "limit": {"rate": 1, "per": "1s"}}"#;
    let plugin = host.load::<RateLimit>(config).unwrap();
    let of = |consumer: &str, plan: &str| get("192.0.2.1").var("consumer", consumer).var("plan", plan);
    let first = plugin.send(of("alice", "free"));
    assert_eq!(
        header(&first, "ratelimit-policy").as_deref(),
        Some("\"minute\";q=60;w=60, \"day\";q=2;w=86400")
    );
    assert!(plugin.send(of("alice", "free")).sent && !plugin.send(of("alice", "free")).sent);
    assert!(plugin.send(of("bob", "free")).sent, "each for himself");
    for _ in 0..9 {
        assert!(plugin.send(of("carol", "endless")).sent);
    }
    for request in [of("dave", "gone"), get("192.0.2.1")] {
        assert_eq!(header(&plugin.send(request), "ratelimit-policy").as_deref(), Some("\"default\";q=1;w=1"));
    }
    let alone = host.load::<RateLimit>(r#"{"consumer_plans": true}"#).unwrap();
    let refused = alone.send(of("dave", "gone"));
    assert_eq!((refused.response().status(), refused.code.as_deref()), (503, Some("plan_unknown")));
    assert!(alone.send(get("192.0.2.1")).sent && alone.send(of("bob", "endless")).sent);
    let dry = host.load::<RateLimit>(r#"{"consumer_plans": true, "dry_run": true}"#).unwrap();
    assert!(dry.send(of("dave", "gone")).sent);
    let host = host.consumers_fail(Failure::Unavailable);
    let refused = plugin.send(of("alice", "free"));
    assert_eq!((refused.response().status(), refused.code.as_deref()), (503, Some("consumers_unavailable")));
    drop(host);
    let refused = Host::new().load::<RateLimit>(config).err().unwrap().to_string();
    assert!(refused.starts_with("consumer_plans: the plugin may not ask"), "{refused}");
}

#[test]
fn of_several_limits_the_lowest_is_told() {
    let told_before = |request: Request, ratelimit: &str, policy: &str| {
        request.answer_header("ratelimit", ratelimit).answer_header("ratelimit-policy", policy)
    };
    for (before, policy, told) in [
        ("\"a\";r=1;t=60", "\"a\";q=5;w=60", "1"),
        ("\"a\";r=50;t=60", "\"a\";q=100;w=60", "8"),
        ("nonsense", "nonsense", "8"),
    ] {
        let wide = Host::new().load::<RateLimit>(r#"{"limit": {"rate": 9, "per": "1s"}}"#).unwrap();
        let outcome = wide.send(told_before(get("192.0.2.1"), before, policy));
        assert_eq!(remaining(&outcome).as_deref(), Some(told), "{before}");
    }
    let x = Host::new().load::<RateLimit>(r#"{"limit": {"rate": 9, "per": "1s"}, "headers": "x"}"#).unwrap();
    let request = get("192.0.2.1").answer_header("x-ratelimit-limit", "5");
    let request =
        request.answer_header("x-ratelimit-remaining", "1").answer_header("x-ratelimit-reset", "60");
    let outcome = x.send(request);
    assert_eq!(header(&outcome, "x-ratelimit-limit").as_deref(), Some("5"));
    let narrow = Host::new().load::<RateLimit>(r#"{"limit": {"rate": 1, "per": "1m"}}"#).unwrap();
    narrow.send(get("192.0.2.1"));
    let refused = narrow.send(told_before(get("192.0.2.1"), "\"a\";r=0;t=60", "\"a\";q=5;w=60"));
    assert_eq!(header(&refused, "x-ratelimit-limit").as_deref(), Some("1"), "the limit that refused");
    let policies = header(&refused, "ratelimit-policy");
    assert_eq!(policies.as_deref(), Some("\"a\";q=5;w=60, \"default\";q=1;w=60"));
}

#[test]
fn all_limits_have_to_allow_a_request() {
    let host = Host::new();
    let limits = r#"{"algorithm": "fixed-window", "limits": [
        {"name": "minute", "rate": 2, "per": "1m"},
        {"name": "day", "rate": 3, "per": "24h"},
        {"rate": 100, "per": "1h", "key": "const", "cost": 5}]}"#;
    let plugin = host.load::<RateLimit>(limits).unwrap();
    let first = plugin.send(get("192.0.2.1"));
    assert_eq!(header(&first, "ratelimit").as_deref(), Some("\"minute\";r=1;t=60"));
    let policies = "\"minute\";q=2;w=60, \"day\";q=3;w=86400, \"2\";q=100;w=3600";
    assert_eq!(header(&first, "ratelimit-policy").as_deref(), Some(policies));
    assert!(plugin.send(get("192.0.2.1")).sent);
    for _ in 0..3 {
        let refused = plugin.send(get("192.0.2.1"));
        assert_eq!(header(&refused, "ratelimit").as_deref(), Some("\"minute\";r=0;t=60"));
    }
    host.advance(Time::from_secs(60));
    assert!(plugin.send(get("192.0.2.1")).sent, "what was refused has taken nothing of the day");
    let refused = plugin.send(get("192.0.2.1"));
    assert_eq!(header(&refused, "retry-after").as_deref(), Some("86340"));
    assert_eq!(header(&refused, "ratelimit").as_deref(), Some("\"day\";r=0;t=86340"));
}

#[test]
fn each_algorithm_counts_in_its_way() {
    let admitted = |algorithm: &str, at: &[u64]| {
        let host = Host::new();
        let config = format!(r#"{{"algorithm": "{algorithm}", "limit": {{"rate": 4, "per": "1m"}}}}"#);
        let plugin = host.load::<RateLimit>(&config).unwrap();
        let mut now = 0;
        at.iter()
            .filter(|&&second| {
                host.advance(Time::from_secs(second - now));
                now = second;
                plugin.send(get("192.0.2.1")).sent
            })
            .count()
    };
    let edge = [59, 59, 59, 59, 59, 60, 60, 60, 60, 60];
    for (algorithm, expected) in
        [("fixed-window", 8), ("sliding-log", 4), ("sliding-counter", 4), ("token-bucket", 4)]
    {
        assert_eq!(admitted(algorithm, &edge), expected, "{algorithm}");
    }
    // What waits in a leaky bucket runs out meanwhile.
    assert_eq!(admitted("leaky-bucket", &[0]), 1);
}

#[test]
fn a_leaky_bucket_makes_requests_wait() {
    let host = Host::new();
    let config = r#"{"algorithm": "leaky-bucket", "limit": {"rate": 10, "per": "1s", "burst": 2}}"#;
    let plugin = host.load::<RateLimit>(config).unwrap();
    let clock = || host.enter(wasmgate_sdk::clock::monotonic);
    let start = clock();
    for waited in [0, 100, 200] {
        assert!(plugin.send(get("192.0.2.1")).sent);
        assert_eq!(clock() - start, Time::from_millis(waited));
    }
}

#[test]
fn with_a_dry_run_all_pass() {
    let host = Host::new();
    let plugin = load(&host, r#", "dry_run": true"#);
    for left in ["1", "0", "0"] {
        let outcome = plugin.send(get("192.0.2.1"));
        assert_eq!((outcome.sent, remaining(&outcome).as_deref()), (true, Some(left)));
    }
    assert_eq!((host.metric("would_limit", &[]), host.metric("limited", &[])), (Some(1.0), Some(0.0)));
}

#[test]
fn nothing_passes_a_limit_of_nothing() {
    let plugin = Host::new().load::<RateLimit>(r#"{"limit": {"rate": 0, "per": "1m"}}"#).unwrap();
    let refused = plugin.send(get("192.0.2.1"));
    assert_eq!((refused.response().status(), header(&refused, "retry-after")), (429, None));
}

#[test]
fn preflights_are_counted_only_if_told() {
    let host = Host::new();
    let plugin = load(&host, "");
    for _ in 0..3 {
        assert_eq!(remaining(&plugin.send(preflight())), None);
    }
    assert!(plugin.send(Request::new("OPTIONS", "/")).response().header("ratelimit").is_some());
    let plugin = load(&Host::new(), r#", "count_preflight": true"#);
    assert_eq!(remaining(&plugin.send(preflight())).as_deref(), Some("1"));
}

#[test]
fn too_many_keys_pass_or_not() {
    let plugin = load(&Host::new().max_keys(0), "");
    let outcome = plugin.send(get("192.0.2.1"));
    assert_eq!((outcome.sent, remaining(&outcome)), (true, None));
    let plugin = load(&Host::new().max_keys(0), r#", "on_exhausted": "deny""#);
    let outcome = plugin.send(get("192.0.2.1"));
    assert_eq!((outcome.response().status(), outcome.code.as_deref()), (503, Some("rate_limit_exhausted")));
}

#[test]
fn mistakes_are_named() {
    let refusal = |text: &str| Host::new().load::<RateLimit>(text).err().unwrap().to_string();
    for (limit, expected) in [
        (r#""rate": 1, "per": "1m", "burst": 0"#, "limit.burst: must be at least 1"),
        (r#""rate": 1, "per": "0s""#, "limit.per: must be 1ms to 366d"),
        (r#""rate": 1, "per": "367d""#, "limit.per: must be 1ms to 366d"),
        (r#""rate": 1, "per": "300d", "burst": 1000"#, "limit: takes more than a century to fill"),
        (r#""rate": 1, "per": 60"#, "limit.per: invalid type: integer `60`, expected a string"),
        (r#""rate": 1, "per": "60""#, "limit.per: \"60\" is not a time such as \"5s\""),
        (r#""rate": 1"#, "limit: missing field `per`"),
    ] {
        assert_eq!(refusal(&format!(r#"{{"limit": {{{limit}}}}}"#)), expected);
    }
    for (more, expected) in [
        (
            r#""key": "team""#,
            "key: \"team\" is not one of ip, consumer, credential, group, route, path, const, header:NAME, cookie:NAME or claim:PATH",
        ),
        (r#""key": "header:a b""#, "key: `a b` is not a header name"),
        (r#""ipv6_prefix": 129"#, "ipv6_prefix: must be at most 128"),
        (r#""cost": 0"#, "cost: must be at least 1"),
        (r#""cost": 3"#, "limit: holds less than one request costs"),
        (r#""key": []"#, "key: names nothing; \"const\" is one limit for all"),
        (r#""key": "{ip""#, "key: a brace of \"{ip\" has no counterpart"),
        (r#""limits": [{"rate": 1, "per": "1m", "cost": 0}]"#, "limits[0].cost: must be at least 1"),
        (
            r#""limits": [{"rate": 1, "per": "1m", "algorithm": "fixed-window", "burst": 1}]"#,
            "limits[0].burst: is for token and leaky buckets",
        ),
        (
            r#""limits": [{"rate": 10001, "per": "1m", "algorithm": "sliding-log"}]"#,
            "limits[0].rate: a sliding log holds at most 10000",
        ),
        (
            r#""plans": {"x": {"rate": 1, "per": "1s", "name": "a b"}}"#,
            "plans.x.name: has to be of letters, digits, - and _",
        ),
        (
            r#""cost": 2, "plans": {"x": {"rate": 1, "per": "1s"}}"#,
            "plans.x: holds less than one request costs",
        ),
    ] {
        assert_eq!(refusal(&format!("{{{TWO}, {more}}}")), expected);
    }
    assert_eq!(refusal("null"), "limit: neither limit nor limits nor plans is given");
    assert!(refusal(&format!(r#"{{{TWO}, "headers": "all"}}"#)).starts_with("headers: unknown variant"));
}
