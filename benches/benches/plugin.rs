//! What plugins cost: the lease of a warm instance, one call, a chain of them. The plugin is
//! `headers`, told to read one header and to set one.

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
        chain::{Chain, Use},
        exchange::{Connection, Exchange, RequestHead, State},
    },
    telemetry::metrics::Metrics,
    wasm::{
        PluginContext,
        compile::{Cache, Code, digest},
        engine,
        native::{self, NativeFactory, Settings, Template},
        pool::Pool,
    },
};

const CONFIG: &str = r#"{"request":{"set":{"x-out":"${header.x-in}"}}}"#;

fn plugin() -> impl Fn() -> Arc<Template> {
    let directory = wasmgate_build::plugins().expect("the plugins build");
    let bytes = fs::read(directory.join("headers.wasm")).expect("the plugin is there");
    let engine = engine::build().expect("the engine starts");
    let compiled = Cache::default().compile(&engine, &bytes, &digest(&bytes)).expect("the plugin compiles");
    let Code::Component(component) = compiled.code else { panic!("the plugin is no component") };
    let linked = native::link(&engine, &component).expect("the plugin links");
    let capabilities = Arc::new(Capabilities::new(Arc::new(Metrics::default())));
    let context = PluginContext::new(
        Arc::from("headers"),
        Arc::from("headers"),
        PluginLimits::default(),
        Vec::new(),
        Vec::new(),
        false,
        capabilities,
    );
    move || {
        let breaker =
            Breaker { failures: 5, backoff: Duration::from_secs(1), max_backoff: Duration::from_secs(60) };
        let settings = Settings { breaker, fresh: false };
        let start = Template::start(linked.clone(), context.clone(), settings, CONFIG.to_owned());
        runtime().block_on(start).expect("the plugin starts")
    }
}

fn exchange() -> Exchange {
    let mut headers = HeaderMap::new();
    for name in ["x-in", "accept", "user-agent", "x-request-id", "cookie"] {
        headers.insert(name, HeaderValue::from_static("some value"));
    }
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

/// Runs `count` rounds on one runtime and returns what they took.
fn rounds(count: u64, mut round: impl AsyncFnMut(&mut Exchange)) -> Duration {
    runtime().block_on(async {
        let mut exchange = exchange();
        round(&mut exchange).await;
        let start = Instant::now();
        for _ in 0..count {
            round(&mut exchange).await;
        }
        start.elapsed()
    })
}

fn benches(criterion: &mut Criterion) {
    let template = plugin();
    let filter = |identity: u64| -> Rc<dyn Filter> {
        NativeFactory { template: template(), identity }.filter(&mut Alone::default())
    };

    criterion.bench_function("lease/warm", |bencher| {
        let pool = Pool::new(template(), Arc::default(), None);
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
}

criterion_group!(all, benches);
criterion_main!(all);
