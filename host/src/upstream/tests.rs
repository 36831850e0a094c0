use std::{path::Path, rc::Rc};

use super::{health::checks, *};
use crate::telemetry::metrics::Format;

/// The upstream of a config, with `settings` beside its endpoints.
fn settings(endpoints: &[&str], settings: &str) -> config::Upstream {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n\n[upstream.u]\nendpoints = {endpoints:?}\n{settings}\n\n\
         [[route]]\nname = \"all\"\nmatch = {{ path = \"/*\" }}\nupstream = \"u\"\n"
    );
    let mut config = config::parse(&text, "test.toml", Path::new(".")).expect("a config");
    config.upstreams.remove(0)
}

struct Bench(Arc<Metrics>);

impl Bench {
    fn new() -> Self {
        Bench(Arc::default())
    }

    fn upstream(&self, endpoints: &[&str], rest: &str, before: Option<&Upstream>) -> Upstream {
        Upstream::new(settings(endpoints, rest), self.0.clone(), before)
    }

    /// The value of the first series whose line begins like this.
    fn metric(&self, start: &str) -> Option<String> {
        let page = self.0.page(Format::Prometheus).expect("a page");
        let line = page.lines().find(|line| line.starts_with(start))?;
        line.rsplit_once(' ').map(|(_, value)| value.to_owned())
    }
}

fn labels(upstream: &Upstream) -> Vec<String> {
    upstream.members().iter().map(|member| member.endpoint.label.to_string()).collect()
}

fn found(addresses: &[&str]) -> Vec<Found> {
    let found = |address: &&str| Found { address: address.parse().expect("one"), weight: 1, priority: 0 };
    addresses.iter().map(found).collect()
}

fn first(upstream: &Upstream) -> Arc<Endpoint> {
    upstream.members()[0].endpoint.clone()
}

const A: &str = "127.0.0.1:1";
const B: &str = "127.0.0.1:2";

#[test]
fn what_is_known_of_an_endpoint_outlives_a_reload() {
    let bench = Bench::new();
    let before = bench.upstream(&[A, B], "", None);
    before.drain(B, true);
    let after = bench.upstream(&[B, "127.0.0.1:3"], "", Some(&before));
    assert_eq!(labels(&after), [B, "127.0.0.1:3"]);
    assert_eq!(first(&after).out(), Some(Out::Drained));
    assert!(Arc::ptr_eq(&first(&after), &before.members()[1].endpoint));
}

#[test]
fn an_answer_of_a_name_server_replaces_the_one_before() {
    let bench = Bench::new();
    let upstream = bench.upstream(&["a.test:80"], "", None);
    assert_eq!((labels(&upstream).len(), upstream.unknown()), (0, vec![0]));
    upstream.resolved(0, found(&["10.0.0.1:80", "10.0.0.2:80"]));
    let version = upstream.version();
    upstream.resolved(0, found(&["10.0.0.1:80", "10.0.0.2:80"]));
    assert_eq!(upstream.version(), version, "nothing has changed");
    let kept = upstream.members()[1].endpoint.clone();
    upstream.resolved(0, found(&["10.0.0.2:80"]));
    assert!(Arc::ptr_eq(&first(&upstream), &kept));
    upstream.resolved_in_part(0, &found(&["10.0.0.3:80"]));
    assert_eq!(labels(&upstream), ["10.0.0.2:80", "10.0.0.3:80"], "not all could be told");
    let after = bench.upstream(&[A, "a.test:80"], "", Some(&upstream));
    assert_eq!(labels(&after), [A, "10.0.0.2:80", "10.0.0.3:80"], "also in another place");
}

#[test]
fn failures_in_a_row_take_an_endpoint_out_for_a_time() {
    let bench = Bench::new();
    let rest = "outliers = { failures = 2, ejection = \"1s\", max_ejected = 50 }";
    let upstream = bench.upstream(&[A, B], rest, None);
    upstream.take_over();
    let endpoint = first(&upstream);
    upstream.failed(&endpoint, Failure::Gateway);
    upstream.succeeded(&endpoint);
    upstream.failed(&endpoint, Failure::Gateway);
    assert_eq!(endpoint.out(), None, "not in a row");
    upstream.failed(&endpoint, Failure::Gateway);
    assert_eq!(endpoint.out(), Some(Out::Ejected));
    let other = upstream.members()[1].endpoint.clone();
    (0..4).for_each(|_| upstream.failed(&other, Failure::Gateway));
    assert_eq!(other.out(), None, "half of them is enough");
    upstream.look(Instant::now() + std::time::Duration::from_secs(2), &[]);
    assert_eq!(endpoint.out(), None);
}

#[test]
fn a_check_that_succeeds_again_ends_an_ejection() {
    let bench = Bench::new();
    let upstream = bench.upstream(&[A, B], "outliers = { failures = 1 }", None);
    let endpoint = first(&upstream);
    upstream.failed(&endpoint, Failure::Gateway);
    upstream.checked(&endpoint, Some(checks::Change::Unhealthy), Some("refused".to_owned()));
    assert_eq!(endpoint.out(), Some(Out::Ill));
    upstream.checked(&endpoint, Some(checks::Change::Healthy), None);
    assert_eq!(endpoint.out(), Some(Out::Ejected));
    upstream.recovered(&endpoint);
    assert_eq!(endpoint.out(), None);
}

#[test]
fn a_breaker_outlives_a_reload_that_leaves_it_as_it_is() {
    let bench = Bench::new();
    let rest = "breaker = { failures = 1 }";
    let before = bench.upstream(&[A], rest, None);
    before.take_over();
    before.failed(&first(&before), Failure::Gateway);
    let state = |upstream: &Upstream| upstream.breaker.as_ref().map(|breaker| breaker.state());
    assert_eq!(state(&before), Some(breaker::State::Open));
    let same = bench.upstream(&[A, B], rest, Some(&before));
    assert_eq!(state(&same), Some(breaker::State::Open));
    let other = bench.upstream(&[A], "breaker = { failures = 2 }", Some(&same));
    other.take_over();
    assert_eq!(state(&other), Some(breaker::State::Closed));
    assert_eq!(bench.metric("wasmgate_upstream_breaker{").as_deref(), Some("0"));
}

#[test]
fn metrics_stay_with_the_name_and_go_with_it() {
    let bench = Bench::new();
    let before = bench.upstream(&[A, B], "outliers = { failures = 1 }\nbreaker = {}", None);
    before.take_over();
    before.failed(&first(&before), Failure::Gateway);
    let ejections = |address| {
        bench.metric(&format!(
            "wasmgate_upstream_endpoint_ejections_total{{upstream=\"u\",endpoint=\"{address}\""
        ))
    };
    let available = |address| {
        bench.metric(&format!("wasmgate_upstream_endpoint_available{{upstream=\"u\",endpoint=\"{address}\""))
    };
    assert_eq!((ejections(A).as_deref(), available(B).as_deref()), (Some("1"), Some("1")));

    let after = bench.upstream(&[A], "", Some(&before));
    before.retire(Some(&after));
    after.take_over();
    assert_eq!(ejections(A).as_deref(), Some("1"), "counters of what stays go on");
    assert_eq!(available(B), None, "what is gone is gone");
    assert_eq!(bench.metric("wasmgate_upstream_breaker{"), None);
    before.drain(B, true);
    assert_eq!(available(B), None, "who is retired tells nothing any more");

    after.retire(None);
    assert_eq!((ejections(A), available(A)), (None, None));
}

#[test]
fn what_nobody_waited_for_says_nothing_of_the_upstream() {
    let bench = Bench::new();
    let upstream = Arc::new(bench.upstream(&[A], "breaker = { failures = 0, failure_rate = 50.0 }", None));
    let cluster = Rc::new(Cluster::new(upstream.clone(), &bench.0, 0, None));
    let pool = cluster.pick(&Ask::default()).expect("a pool");
    let attempt = || cluster.attempt(&pool, Instant::now());
    drop(attempt());
    attempt().failed(&pool::Error::Overloaded);
    assert_eq!(upstream.totals(), Totals { requests: 0, failures: 0 });
    attempt().answered(http::StatusCode::OK);
    attempt().answered(http::StatusCode::BAD_GATEWAY);
    attempt().failed(&pool::Error::ConnectTimeout);
    attempt().timed_out();
    assert_eq!(upstream.totals(), Totals { requests: 4, failures: 3 });
    let status = |status| {
        bench.metric(&format!("wasmgate_upstream_requests_total{{upstream=\"u\",status=\"{status}\""))
    };
    assert_eq!((status("cancelled").as_deref(), status("failed").as_deref()), (Some("2"), Some("2")));
}
