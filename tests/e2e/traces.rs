//! Traces: whose they are, what they tell, and that nobody waits for a collector.

use wasmgate_tests::{
    Collector, Reserved, Response, TestGateway, TestUpstream, attribute, before, eventually, request, spans,
};

const ROUTES: &str = r#"
[plugins]
directory = "{plugins}"
[[route]]
name = "all"
upstream = "app"
plugins = [{ name = "headers", config = { request = { set = { x-a = "1" } }, response = { set = { x-b = "1" } } } }]
[[route]]
name = "fixed"
match = { path = "/fixed" }
plugins = [
    { name = "headers", config = { request = { set = { x-a = "1" } }, response = { set = { x-b = "1" } } } },
    { name = "respond", config = { status = 503, body = "x" } },
]
"#;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn config(traces: &str, upstream: &TestUpstream) -> String {
    before(&upstream.address(), &format!("[traces]\n{traces}\n{ROUTES}"))
}

/// A request that goes on with a trace.
fn traced(gateway: &TestGateway, target: &str, flags: &str) -> Response {
    let header = format!(
        "traceparent: 00-{TRACE}-{PARENT}-{flags}\r\ntracestate: vendor=1\r\nbaggage: tenant=a,user=b\r\n"
    );
    request(gateway.addr(), "GET", target, &header)
}

/// Trace, span and flags that an upstream got, from what it echoes.
fn parent(response: &Response) -> [String; 3] {
    let text = response.text();
    let line = text.lines().find_map(|line| line.strip_prefix("traceparent: "));
    let parts: Vec<_> = line.unwrap_or_else(|| panic!("{text}")).split('-').map(str::to_owned).collect();
    let [version, trace, span, flags] = parts.try_into().expect("four parts");
    assert_eq!(version, "00");
    [trace, span, flags]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_collector_gets_the_spans_of_a_request() {
    let (upstream, collector) = (TestUpstream::echo_headers(), Collector::start());
    let address = collector.address();
    let traces = format!(
        "service = \"edge\"\notlp = {{ endpoint = \"http://{address}\", protocol = \"grpc\", headers = {{ x-key = \"k\" }} }}"
    );
    let gateway = TestGateway::start(&config(&traces, &upstream));
    let [trace, attempt_id, flags] = parent(&traced(&gateway, "/some/path?q=1", "01"));
    assert_eq!((&*trace, &*flags), (TRACE, "01"));
    eventually!(spans(&collector.requests()).len() >= 4);

    let requests = collector.requests();
    let resource = requests[0].resource_spans[0].resource.clone().expect("a resource");
    assert!(format!("{resource:?}").contains("\"edge\""), "{resource:?}");
    let spans = spans(&requests);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:#?}");
    let named = |name: &str| {
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span {name}: {spans:#?}"))
    };
    let whole = named("GET all");
    assert_eq!((hex(&whole.parent_span_id).as_str(), whole.kind), (PARENT, 2));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/some/path"),
        ("http.response.status_code", "200"),
        ("wasmgate.route", "all"),
        ("client.address", "127.0.0.1"),
    ] {
        assert_eq!(attribute(whole, key), value, "{key}");
    }
    let attempt = named("GET app");
    assert_eq!((hex(&attempt.span_id), attempt.kind), (attempt_id, 3));
    assert_eq!(attribute(attempt, "http.response.status_code"), "200");
    assert_eq!(attribute(attempt, "server.port"), upstream.address().port().to_string());
    for span in [attempt, named("headers request"), named("headers response")] {
        assert_eq!(span.parent_span_id, whole.span_id);
        let within = whole.start_time_unix_nano..=whole.end_time_unix_nano;
        assert!(within.contains(&span.start_time_unix_nano) && within.contains(&span.end_time_unix_nano));
    }
    assert_eq!(gateway.access_lines(1)[0]["trace_id"], TRACE);
    eventually!(gateway.metric("wasmgate_trace_spans_total{result=\"exported\"}") == 4.0);
}

#[test]
fn spans_travel_over_http_too_and_failures_are_told() {
    let upstream = TestUpstream::start(|call| {
        call.body()?;
        Err(std::io::ErrorKind::ConnectionReset.into())
    });
    let collector = TestUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let traces = format!("otlp = {{ endpoint = \"http://{}\" }}", collector.address());
    let gateway = TestGateway::start(&config(&traces, &upstream));
    assert_eq!(gateway.get("/").status, 502);
    assert_eq!(gateway.get("/fixed").status, 503);
    let taken = || spans(&Collector::requests_of(&collector));
    eventually!(taken().len() >= 7, "{:#?}", taken());
    let request = &collector.requests()[0];
    assert_eq!(request.target(), "/v1/traces");
    assert_eq!(request.head.fields.get("content-type"), Some("application/x-protobuf"));
    let spans = taken();
    let failed = |name: &str| {
        let span = spans.iter().find(|span| span.name == name).expect(name);
        span.status.clone().filter(|status| status.code == 2).map(|status| status.message)
    };
    assert_eq!(failed("GET all").as_deref(), Some("upstream_reset"));
    assert_eq!(failed("GET app").as_deref(), Some("upstream_reset"));
    assert_eq!(failed("GET fixed").as_deref(), Some("terminated"));
    assert_eq!(failed("respond request"), None);
}

#[test]
fn the_client_decides_what_is_recorded_where_it_is_trusted() {
    let upstream = TestUpstream::echo_headers();
    let gateway = TestGateway::start(&config("sample = 0.0", &upstream));
    let response = traced(&gateway, "/", "00");
    let [trace, span, flags] = parent(&response);
    assert_eq!((&*trace, &*flags), (TRACE, "00"));
    assert_ne!(span, PARENT);
    for line in ["tracestate: vendor=1", "baggage: tenant=a,user=b"] {
        assert!(response.text().contains(line), "{}", response.text());
    }
    assert_eq!(parent(&traced(&gateway, "/", "01"))[2], "01");
    let [own, _, flags] = parent(&gateway.get("/"));
    assert_eq!((own.len(), &*flags), (32, "02"), "random, and not sampled");

    let distrust = config("sample = 1.0\ntrust_parent = false", &upstream);
    gateway.reloads_after(|| gateway.write_config(&distrust));
    let response = traced(&gateway, "/", "00");
    let [trace, _, flags] = parent(&response);
    assert_ne!(trace, TRACE);
    assert_eq!(flags, "03");
    assert!(!response.text().contains("tracestate") && response.text().contains("baggage: tenant=a,user=b"));

    let without = config("", &upstream).replace("[traces]\n", "");
    gateway.reloads_after(|| gateway.write_config(&without));
    assert_eq!(parent(&traced(&gateway, "/", "01")), [TRACE, PARENT, "01"]);
}

#[test]
fn a_collector_that_is_not_there_costs_a_counter() {
    let upstream = TestUpstream::ok();
    // Bound, and nobody listens.
    let nobody = Reserved::new();
    let traces =
        format!("otlp = {{ endpoint = \"http://{}\", timeout = \"300ms\", queue = 4 }}", nobody.address());
    let mut gateway = TestGateway::start(&config(&traces, &upstream));
    for _ in 0..400 {
        assert_eq!(gateway.get("/").status, 200);
    }
    let lost = |result: &str| gateway.metric(&format!("wasmgate_trace_spans_total{{result=\"{result}\"}}"));
    eventually!(lost("failed") > 0.0 && lost("failed") + lost("dropped") == 1600.0);
    assert_eq!(gateway.logged("traces are not taken").len(), 1, "{}", gateway.log());
    gateway.terminate();
    assert!(gateway.wait().success());
}
