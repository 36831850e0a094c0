//! What plugins keep in a Redis: several gateways share it, and its death costs what the config says.

use std::{
    thread,
    time::{Duration, Instant},
};

use wasmgate_tests::{
    Answer, Authority, Load, Redis, TestGateway, TestUpstream, eventually, fill, peer, redis_cluster,
    redis_sentinel,
};

const CONFIG: &str = r#"
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[plugins]
directory = "{plugins}"
[upstream.app]
endpoints = ["{app}"]
[redis.shared]
{redis}
[secrets]
mine = "a text"
other = "not mine"
[plugin.rate-limit]
store = "shared"
on_error = "{on_error}"
[plugin.rogue]
file = "{guests}/rogue.wasm"
store = "shared"
on_error = "{on_error}"
secrets = ["mine"]
[[route]]
name = "limited"
upstream = "app"
plugins = [{ name = "rate-limit", config = { key = "const", {limits} } }]
[[route]]
name = "keeps"
match = { path = "/keep/*" }
upstream = "app"
plugins = [{ name = "rogue", config = { name = "a", request = [{ keep = "k" }] } }]
[[route]]
name = "secrets"
match = { path = "/secrets" }
upstream = "app"
plugins = [{ name = "rogue", config = { name = "b", request = [{ secret = "mine" }, { secret = "other" }] } }]
"#;

const LIMIT: &str = "algorithm = \"fixed-window\", limit = { rate = 1000, per = \"24h\" }";

/// A busy machine is not what most tests are about.
fn at(redis: &Redis) -> String {
    format!("endpoints = [\"{}\"]\ntimeout = \"10s\"", redis.address)
}

fn soon_at(redis: &Redis) -> String {
    format!("endpoints = [\"{}\"]\ntimeout = \"500ms\"", redis.address)
}

fn config(app: &TestUpstream, redis: &str, on_error: &str, limits: &str) -> String {
    let app = app.address();
    fill(CONFIG, &[("app", &app), ("redis", &redis), ("on_error", &on_error), ("limits", &limits)])
}

/// Both at once, and each at more than the limit: what both let through is the limit, to the last request.
#[test]
fn two_gateways_admit_the_limit_together() {
    let Some(program) = peer("redis-server") else { return };
    for algorithm in ["sliding-log", "sliding-counter", "fixed-window", "token-bucket"] {
        let (redis, app) = (Redis::start(program.clone(), &[]), TestUpstream::ok());
        let limits = format!("limit = {{ rate = 100, per = \"24h\" }}, algorithm = \"{algorithm}\"");
        let config = config(&app, &at(&redis), "deny", &limits);
        let gateways = [TestGateway::start(&config), TestGateway::start(&config)];
        let loads = gateways.iter().map(|gateway| Load::get(gateway.addr(), "/", 1000));
        let answers: Vec<_> = thread::scope(|scope| {
            let loads: Vec<_> = loads.map(|load| scope.spawn(|| load.count(1000))).collect();
            loads.into_iter().map(|load| load.join().unwrap()).collect()
        });
        let of = |answers: &[Answer], status| answers.iter().filter(|answer| answer.status == status).count();
        for own in &answers {
            assert!(of(own, 429) > 0, "{algorithm}: each refuses what is too much for both");
        }
        let all = answers.concat();
        assert!(all.len() >= 500, "{algorithm}: five times the limit: {}", all.len());
        assert_eq!((of(&all, 200), of(&all, 429)), (100, all.len() - 100), "{algorithm}");
        assert_eq!(app.count(), 100, "{algorithm}");
    }
}

#[test]
fn what_is_kept_is_there_for_all_and_outlives_a_gateway() {
    let Some(program) = peer("redis-server") else { return };
    let (redis, app) = (Redis::start(program, &["--requirepass", "s3cret"]), TestUpstream::echo_headers());
    let with_password = format!("{}\npassword = \"s3cret\"\ndatabase = 3", at(&redis));
    let config = config(&app, &with_password, "deny", LIMIT);
    let kept = |gateway: &TestGateway, path| {
        assert_eq!(gateway.get(path).status, 200, "{}", gateway.log());
        app.take_requests().pop().and_then(|request| request.header("x-kept").map(str::to_owned)).unwrap()
    };
    let first = TestGateway::start(&config);
    assert_eq!(kept(&first, "/keep/1"), "None 1");
    let second = TestGateway::start(&config);
    assert_eq!(kept(&second, "/keep/2"), "Some(\"/keep/1\") 2");
    drop((first, second));
    assert_eq!(kept(&TestGateway::start(&config), "/keep/3"), "Some(\"/keep/2\") 3");
    let names = redis.ask(&["-a", "s3cret", "-n", "3", "--scan"]);
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["wasmgate:kv:{rogue:k}", "wasmgate:n:{rogue:k}"]);
}

#[test]
fn secrets_are_told_to_those_who_are_granted_them() {
    let app = TestUpstream::echo_headers();
    let config = config(&app, "endpoints = [\"127.0.0.1:1\"]\npassword = \"pass-word\"", "local", LIMIT);
    let gateway = TestGateway::start(&config);
    assert_eq!(gateway.get("/secrets").status, 200);
    let seen = app.take_requests().pop().unwrap();
    let told: Vec<_> = seen.head.fields.all("x-secret");
    assert_eq!(told, ["a text", "none"]);
    let shown = gateway.admin_request("GET", "/config", "").text();
    assert!(shown.contains("(hidden)") && shown.contains("127.0.0.1:1"), "{shown}");
    for secret in ["a text", "not mine", "pass-word"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!gateway.log().contains(secret));
    }
}

/// As a Redis does with connections on which nothing was asked for its `timeout`.
#[test]
fn a_connection_that_ended_while_nobody_asked_costs_no_request() {
    let Some(program) = peer("redis-server") else { return };
    let (redis, app) = (Redis::start(program, &[]), TestUpstream::ok());
    let gateway = TestGateway::start(&config(&app, &at(&redis), "deny", LIMIT));
    let all_pass = || {
        let answers = Load::get(gateway.addr(), "/", 1000).connections(8).count(40);
        assert!(answers.len() > 20, "{}", answers.len());
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    };
    all_pass();
    for _ in 0..5 {
        redis.ask(&["client", "kill", "type", "normal"]);
        all_pass();
    }
    eventually!(gateway.log().contains("Redis is lost") && gateway.log().contains("Redis is back"));
}

/// Under load, while the Redis is killed and comes back.
fn die_and_return(on_error: &str) -> (Vec<Answer>, Instant, Instant) {
    let program = peer("redis-server").expect("it was there");
    let (mut redis, app) = (Redis::start(program, &[]), TestUpstream::ok());
    let limits = "algorithm = \"fixed-window\", limit = { rate = 1000000, per = \"24h\" }";
    let gateway = TestGateway::start(&config(&app, &soon_at(&redis), on_error, limits));
    eventually!(gateway.get("/").status == 200);
    let load = Load::get(gateway.addr(), "/", 500).start();
    let killed = Instant::now();
    redis.kill();
    eventually!(gateway.log().contains("Redis is lost") || gateway.log().contains("Redis cannot be reached"));
    // It is away for some of the load, however soon that was noticed.
    let answered = || gateway.metric("wasmgate_requests_total");
    let before = answered();
    eventually!(answered() > before + 50.0);
    redis.restart();
    let back = Instant::now();
    eventually!(gateway.log().contains("Redis is back"));
    // From here on it counts again.
    let before: String = redis.ask(&["dbsize"]);
    eventually!(redis.ask(&["dbsize"]).trim() != "0", "{before}");
    eventually!(gateway.get("/").status == 200);
    (load.stop(), killed, back)
}

#[test]
fn where_the_memory_takes_over_no_request_fails() {
    if peer("redis-server").is_none() {
        return;
    }
    let (answers, ..) = die_and_return("local");
    assert!(answers.len() > 50, "{}", answers.len());
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let (answers, ..) = die_and_return("allow");
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
}

#[test]
fn where_it_is_denied_it_is_503_in_time_and_soon_normal_again() {
    if peer("redis-server").is_none() {
        return;
    }
    let (answers, killed, back) = die_and_return("deny");
    assert!(answers.iter().all(|answer| [200, 503].contains(&answer.status)), "{answers:?}");
    let denied: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!denied.is_empty());
    assert!(denied.iter().all(|answer| answer.body.contains("store_unavailable")), "{denied:?}");
    assert!(denied.iter().all(|answer| answer.sent >= killed), "nothing is denied before");
    let last = denied.iter().map(|answer| answer.sent).max().expect("some");
    assert!(last < back + Duration::from_secs(2), "{:?}", last.saturating_duration_since(back));
}

#[test]
fn one_that_says_nothing_costs_no_more_than_its_time() {
    let Some(program) = peer("redis-server") else { return };
    let (redis, app) = (Redis::start(program, &[]), TestUpstream::ok());
    let gateway = TestGateway::start(&config(&app, &soon_at(&redis), "deny", LIMIT));
    eventually!(gateway.get("/").status == 200);
    redis.pause();
    let answers = Load::get(gateway.addr(), "/", 100).connections(4).count(50);
    let refused = gateway.get("/");
    assert_eq!((refused.status, refused.header("x-ratelimit-limit")), (503, None), "nobody has looked");
    redis.resume();
    assert!(answers.iter().all(|answer| answer.status == 503), "{answers:?}");
    // Those that wait for it do so together; all others are told at once.
    let waited = answers.iter().filter(|answer| answer.took > Duration::from_millis(400)).count();
    assert!((1..=16).contains(&waited), "{waited}");
    eventually!(gateway.get("/").status == 200);
}

#[test]
fn metrics_tell_how_it_does() {
    let Some(program) = peer("redis-server") else { return };
    let (mut redis, app) = (Redis::start(program, &[]), TestUpstream::ok());
    let gateway = TestGateway::start(&config(&app, &at(&redis), "deny", LIMIT));
    assert_eq!(gateway.get("/").status, 200);
    let number = |name: &str| gateway.metric(&format!("wasmgate_redis_{name}{{redis=\"shared\"}}"));
    assert_eq!(number("duration_seconds_count"), 1.0);
    assert_eq!((number("connections"), number("connections_opened_total")), (1.0, 1.0));
    assert_eq!(number("failures_total"), 0.0);
    redis.kill();
    // A worker notices with its next question.
    eventually!(gateway.get("/").status == 503 && number("connections") == 0.0);
    assert!(number("failures_total") > 0.0);
    redis.restart();
    eventually!(gateway.get("/").status == 200);
    assert!(number("connections") >= 1.0 && number("connections_opened_total") >= 2.0);
}

#[test]
fn a_cluster_counts_and_goes_on_without_a_node_that_has_none_of_it() {
    let Some(program) = peer("redis-server") else { return };
    let (nodes, app) = (redis_cluster(program), TestUpstream::ok());
    let endpoints: Vec<_> = nodes.iter().map(|node| format!("\"{}\"", node.address)).collect();
    let redis = format!("mode = \"cluster\"\nendpoints = [{}]", endpoints.join(", "));
    let limits = "algorithm = \"sliding-log\", limits = [{ rate = 5, per = \"1h\" }, { rate = 9, per = \"24h\" }, \
                  { rate = 7, per = \"2h\", key = \"route\" }]";
    let config = config(&app, &redis, "deny", limits);
    let gateways = [TestGateway::start(&config), TestGateway::start(&config)];
    for gateway in &gateways {
        eventually!(gateway.get("/keep/1").status == 200);
    }
    let passed = (0..12).filter(|turn| gateways[turn % 2].get("/").status == 200).count();
    assert_eq!(passed, 5);
}

#[test]
fn after_a_failover_the_new_master_is_asked() {
    let Some(program) = peer("redis-server") else { return };
    let mut master = Redis::start(program.clone(), &[]);
    let port = master.address.port().to_string();
    let replica = Redis::start(program.clone(), &["--replicaof", "127.0.0.1", &port]);
    eventually!(replica.ask(&["role"]).contains("connected"));
    let sentinel = redis_sentinel(program, &master);
    eventually!(
        sentinel.ask(&["sentinel", "replicas", "main"]).contains(&replica.address.port().to_string())
    );
    let app = TestUpstream::ok();
    let redis = format!("mode = \"sentinel\"\nmaster = \"main\"\n{}", at(&sentinel));
    let gateway = TestGateway::start(&config(&app, &redis, "deny", LIMIT));
    assert_eq!(gateway.get("/").status, 200);
    eventually!(replica.ask(&["dbsize"]).trim() == "1");
    master.kill();
    eventually!(gateway.get("/").status == 200 && replica.ask(&["role"]).starts_with("master"));
    // Each worker has found it by itself.
    eventually!((0..8).all(|_| gateway.get("/").header("x-ratelimit-limit") == Some("1000")));
    assert_eq!(replica.ask(&["dbsize"]).trim(), "1", "the same window");
}

#[test]
fn within_tls_it_has_to_prove_who_it_is() {
    let Some(program) = peer("redis-server") else { return };
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let issued = ours.issue(1, &["localhost"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let (ca, other) = (file("ca.pem", &ours.pem), file("other.pem", &theirs.pem));
    let (cert, key) = (file("cert.pem", &issued.cert), file("key.pem", &issued.key));
    let given = [
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "yes",
    ];
    let (redis, app) = (Redis::start_tls(program, &given), TestUpstream::ok());
    let trusting = |ca: &str| {
        let tls =
            format!("tls = {{ ca = \"{ca}\", certificate = {{ cert = \"{cert}\", key = \"{key}\" }} }}");
        let port = redis.address.port();
        let patient = "timeout = \"10s\"\nconnect_timeout = \"10s\"";
        let redis = format!("endpoints = [\"localhost:{port}\"]\n{patient}\n{tls}");
        TestGateway::start(&config(&app, &redis, "deny", LIMIT))
    };
    let gateway = trusting(&ca);
    assert_eq!(gateway.get("/").status, 200, "{}", gateway.log());
    let refused = trusting(&other);
    assert_eq!(refused.get("/").status, 503);
    eventually!(refused.log().contains("Redis cannot be reached"), "{}", refused.log());
}
