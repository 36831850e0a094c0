//! What plugins cost: the lease of a warm instance, one call, a chain of them. The plugin is
//! `headers`, told to read one header and to set one; then those that let requests in.

#![allow(clippy::expect_used, reason = "a bench may stop")]

use std::{
    fs,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method, Version};
use wasmgate::{
    capability::Capabilities,
    config::{Breaker, FailurePolicy, PluginLimits},
    plugin::{
        Alone, Factory, Filter, Stage,
        chain::{Chain, Outcome, Use},
        exchange::{Connection, Exchange, RequestHead, State},
    },
    telemetry::metrics::Metrics,
    wasm::{
        Grants, PluginContext,
        compile::{Cache, Code, digest},
        engine,
        native::{self, NativeFactory, Settings, Template},
        pool::Pool,
    },
};

const CONFIG: &str = r#"{"request":{"set":{"x-out":"${header.x-in}"}}}"#;

/// A token signed with RS256 and 2048 bits, good until 2100, and the key that it was signed with.
const TOKEN: &str = include_str!("../compare.d/token.json");
const KEY_AUTH: &str = r#"{"keys":[{"consumer":"alice","sha256":"2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"}],"hide_credentials":false}"#;
const RATE_LIMIT: &str = r#"{"limit":{"rate":4000000000,"per":"1s"}}"#;
const RATE_LIMIT_UNTOLD: &str = r#"{"limit":{"rate":4000000000,"per":"1s"},"headers":"none"}"#;
const RATE_LIMITS: &str = r#"{"algorithm":"sliding-counter","limits":[{"rate":4000000000,"per":"1m"},{"rate":4000000000,"per":"24h"}]}"#;

/// Makes plugins of this name with this config.
fn plugin(name: &str, config: &str) -> impl Fn() -> Arc<Template> {
    let directory = wasmgate_build::plugins().expect("the plugins build");
    let bytes = fs::read(directory.join(format!("{name}.wasm"))).expect("the plugin is there");
    let engine = engine::build().expect("the engine starts");
    let compiled = Cache::default().compile(&engine, &bytes, &digest(&bytes)).expect("the plugin compiles");
    let Code::Component(component) = compiled.code else { panic!("the plugin is no component") };
    let linked = native::link(&engine, &component).expect("the plugin links");
    let capabilities = Arc::new(Capabilities::new(Arc::new(Metrics::default())));
    let (name, limits): (Arc<str>, _) = (Arc::from(name), PluginLimits::default());
    let context = PluginContext::new(name.clone(), name, limits, Grants::default(), capabilities);
    let config = config.to_owned();
    move || {
        let breaker =
            Breaker { failures: 5, backoff: Duration::from_secs(1), max_backoff: Duration::from_secs(60) };
        let settings = Settings { breaker, fresh: false };
        let start = Template::start(linked.clone(), context.clone(), settings, config.clone());
        runtime().block_on(start).expect("the plugin starts")
    }
}

fn token() -> serde_json::Value {
    serde_json::from_str(TOKEN).expect("the file is JSON")
}

fn authorization() -> HeaderValue {
    let token = token();
    let text = token["authorization"].as_str().expect("a text");
    text.parse().expect("the value of a header")
}

fn exchange(authorization: &HeaderValue) -> Exchange {
    let mut headers = HeaderMap::new();
    for name in ["x-in", "accept", "user-agent", "x-request-id", "cookie"] {
        headers.insert(name, HeaderValue::from_static("some value"));
    }
    headers.insert("x-api-key", HeaderValue::from_static("key"));
    headers.insert("authorization", authorization.clone());
    let request = RequestHead {
        method: Method::GET,
        version: Version::HTTP_11,
        authority: "a.test".parse().expect("an authority"),
        target: "/a/b?c=d".parse().expect("a target"),
        headers,
        send_authority: None,
        send_target: None,
    };
    let address = "127.0.0.1:80".parse().expect("an address");
    let connection = Arc::new(Connection::new(address, address, None));
    Exchange::new(Box::new(State::new(request, connection, address.ip())))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The same with a new exchange for each round, which is not counted.
fn first_rounds(count: u64, mut round: impl AsyncFnMut(&mut Exchange)) -> Duration {
    let authorization = authorization();
    runtime().block_on(async {
        let mut took = Duration::ZERO;
        for _ in 0..count {
            let mut exchange = exchange(&authorization);
            let start = Instant::now();
            round(&mut exchange).await;
            took += start.elapsed();
        }
        took
    })
}

/// Runs `count` rounds on one runtime and returns what they took.
fn rounds(count: u64, mut round: impl AsyncFnMut(&mut Exchange)) -> Duration {
    let authorization = authorization();
    runtime().block_on(async {
        let mut exchange = exchange(&authorization);
        round(&mut exchange).await;
        let start = Instant::now();
        for _ in 0..count {
            round(&mut exchange).await;
        }
        start.elapsed()
    })
}

fn benches(criterion: &mut Criterion) {
    let template = plugin("headers", CONFIG);
    let filter = |identity: u64| -> Rc<dyn Filter> {
        NativeFactory { template: template(), identity }.filter(&mut Alone::default())
    };

    criterion.bench_function("lease/warm", |bencher| {
        let pool = Pool::new(template(), Arc::default(), None, None);
        bencher.iter_custom(|count| {
            rounds(count, async |_| {
                let lease = pool.lease(Stage::Request).await.expect("an instance");
                pool.give_back(lease);
            })
        });
    });
    criterion.bench_function("call/one header read, one set", |bencher| {
        let filter = filter(0);
        bencher.iter_custom(|count| {
            rounds(count, async |exchange| {
                filter.request(exchange).await.expect("a verdict");
            })
        });
    });
    for length in [0, 1, 5] {
        criterion.bench_function(&format!("chain/{length} plugins, request phase"), |bencher| {
            let used = |identity| Use {
                name: Arc::from("headers"),
                filter: filter(identity),
                policy: FailurePolicy::Closed,
                audit: None,
                numbers: Arc::default(),
            };
            let chain = Chain::new((0..length).map(used).collect());
            bencher.iter_custom(|count| {
                rounds(count, async |exchange| {
                    chain.request(exchange).await;
                })
            });
        });
        // The plugin has no response phase in this config, but exports one: what a phase costs in
        // a chain whose plugins lack it is the case of no plugins at all.
    }
    let issuer =
        serde_json::json!({"iss": "https://idp.test", "audiences": ["api"], "jwks": token()["jwks"]});
    let jwt = serde_json::json!({"issuers": [issuer], "hide_credentials": false}).to_string();
    let all = [
        ("key-auth", "one key", KEY_AUTH),
        ("rate-limit", "one limit", RATE_LIMIT),
        ("rate-limit", "one limit, not told", RATE_LIMIT_UNTOLD),
        ("rate-limit", "two limits", RATE_LIMITS),
        ("jwt", "RS256", &jwt),
    ];
    for (name, what, config) in all {
        criterion.bench_function(&format!("{name}/{what}, request phase"), |bencher| {
            let template = plugin(name, config)();
            let filter = NativeFactory { template, identity: 0 }.filter(&mut Alone::default());
            let policy = FailurePolicy::Closed;
            let used = Use { name: Arc::from(name), filter, policy, audit: None, numbers: Arc::default() };
            let chain = Chain::new([used].into_iter().collect());
            bencher.iter_custom(|count| {
                first_rounds(count, async |exchange| {
                    let passed = chain.request(exchange).await;
                    assert!(matches!(passed, Outcome::Next(_)), "it lets the request pass");
                })
            });
        });
    }
}

criterion_group!(all, benches);
criterion_main!(all);
