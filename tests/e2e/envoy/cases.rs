//! The case table: which filters are run, and which requests each of them gets.

use std::{fs, path::Path};

use wasmgate_tests::{Case, Filter, FilterListener, Lines, Step, module};

use super::upstream::filler;

/// A case under construction: a GET of /ok, unless it is told otherwise.
pub struct Ask {
    listener: String,
    name: String,
    wish: String,
    method: &'static str,
    target: String,
    fields: String,
    body: Vec<u8>,
    steps: Option<Vec<Step>>,
    until: Vec<Lines>,
    requests: usize,
    hangs: bool,
}

const DELETED: Lines = ("http on_delete", 1);

/// What a filter is asked for is also the case's name.
fn ask(listener: &str, wish: &str) -> Ask {
    Ask {
        listener: listener.to_owned(),
        name: wish.to_owned(),
        wish: wish.to_owned(),
        method: "GET",
        target: "/ok".to_owned(),
        fields: String::new(),
        body: Vec::new(),
        steps: None,
        until: vec![DELETED],
        requests: 0,
        hangs: false,
    }
}

impl Ask {
    fn named(self, name: &str) -> Ask {
        Ask { name: name.to_owned(), ..self }
    }

    fn method(self, method: &'static str) -> Ask {
        Ask { method, ..self }
    }

    fn to(self, target: &str) -> Ask {
        Ask { target: target.to_owned(), ..self }
    }

    /// A header field.
    fn with(mut self, field: &str) -> Ask {
        self.fields += &format!("{field}\r\n");
        self
    }

    /// A POST with this body and its length.
    fn post(self, body: &[u8]) -> Ask {
        let length = format!("Content-Length: {}", body.len());
        Ask { method: "POST", body: body.to_vec(), ..self.with(&length) }
    }

    /// A POST with a body in chunks, and with trailers, which are lines that end in CRLF.
    fn chunks(self, chunks: &[&[u8]], trailers: &str) -> Ask {
        let mut body = Vec::new();
        for chunk in chunks {
            body.extend(format!("{:x}\r\n", chunk.len()).bytes());
            body.extend_from_slice(chunk);
            body.extend(b"\r\n");
        }
        body.extend(format!("0\r\n{trailers}\r\n").bytes());
        Ask { method: "POST", body, ..self.with("Transfer-Encoding: chunked") }
    }

    /// These lines are to be logged in place of the stream's end.
    fn until(self, lines: &[Lines]) -> Ask {
        Ask { until: lines.to_vec(), ..self }
    }

    /// Upstreams get as many requests, some of them perhaps later than the answer.
    fn requests(self, requests: usize) -> Ask {
        Ask { requests, ..self }
    }

    /// There may be no answer: the client waits for a moment and leaves.
    fn hangs(self) -> Ask {
        Ask { hangs: true, ..self }
    }

    /// Does this in place of sending the request and reading its answer.
    fn steps(self, steps: impl FnOnce(Vec<u8>) -> Vec<Step>) -> Ask {
        let steps = steps(self.request());
        Ask { steps: Some(steps), ..self }
    }

    fn request(&self) -> Vec<u8> {
        let wish = if self.wish.is_empty() { String::new() } else { format!("X-Do: {}\r\n", self.wish) };
        let (method, target, fields) = (self.method, &self.target, &self.fields);
        // Envoy adds this where it is missing, and wasmgate does not: clients send it.
        let usual = "Host: a.test\r\nX-Forwarded-Proto: http\r\n";
        let head = format!("{method} {target} HTTP/1.1\r\n{usual}{wish}{fields}\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    fn case(self) -> Case {
        let answer = if self.hangs { Step::Silence } else { Step::Answer(self.method) };
        let usual = vec![Step::Send(self.request()), answer];
        Case {
            listener: self.listener,
            name: self.name,
            steps: self.steps.unwrap_or(usual),
            until: self.until,
            requests: self.requests,
        }
    }
}

/// Phases of a request and its response.
const PHASES: [&str; 6] = [
    "request_headers",
    "request_body",
    "request_trailers",
    "response_headers",
    "response_body",
    "response_trailers",
];

/// Phases in which a filter traps, each in a VM of its own.
const TRAPS: [&str; 11] = [
    "context_create",
    "request_headers",
    "request_body",
    "request_trailers",
    "response_headers",
    "response_body",
    "response_trailers",
    "http_call_response",
    "log",
    "done",
    "tick",
];

pub fn listeners() -> Vec<FilterListener> {
    let names = [
        "observe",
        "reads",
        "writes",
        "services",
        "headers",
        "trailers",
        "bodies",
        "pauses",
        "locals",
        "calls",
        "grpc_calls",
        "grpc_streams",
        "contexts",
        "done",
        "foreign",
        "levels",
        "metrics",
        "pointers",
        "properties",
        "routes",
        "shared",
        "state",
        "streams",
        "ticks",
        "queues",
        "hello_world",
        "http_auth_random",
        "http_body",
        "http_headers",
        "grpc_auth_random",
    ];
    let mut all: Vec<FilterListener> = names.iter().map(|name| Filter::new(name).into()).collect();
    all.push(Filter::new("calls").named("calls_root").config("root").into());
    all.push(Filter::new("reads").named("configured").config("the config").vm_config("of the VM").into());
    all.push(Filter::new("http_config").config("from the config").into());
    all.push(Filter::new("wasi").variables(&[("NAME", "value"), ("EMPTY", "")]).into());
    let one = |name: &'static str| Filter::new("chain").named(&format!("chain_{name}")).config(name);
    all.push(FilterListener::chain("chain", vec![one("a"), one("b"), one("c")]));
    for phase in TRAPS {
        let trap = Filter::new("traps").config(phase);
        all.push(trap.clone().named(&format!("trap_{phase}")).into());
        all.push(trap.named(&format!("open_{phase}")).failing_open().into());
    }
    all.push(
        Filter::new("abi_0_1_0").file(module("wasmgate-test-filters-0-1-0")).config("the config").into(),
    );
    all.push(Filter::new("abi_0_2_0").file(module("wasmgate-test-filters-0-2-0")).into());
    all.push(FilterListener::tcp(Filter::new("tcp")));
    all
}

/// Filters that say that they cannot start, trap at the start, or are of no use to any host.
pub fn failing_to_start(directory: &Path) -> Vec<(String, Filter)> {
    let mut all = Vec::new();
    for how in ["false", "trap"] {
        all.push((format!("on_vm_start:{how}"), Filter::new("start").vm_config(how)));
        all.push((format!("on_configure:{how}"), Filter::new("start").config(how)));
    }
    let changed = [
        ("abi", "proxy_abi_version_0_2_1", "proxy_abi_version_9_9_9"),
        ("import", "proxy_get_status", "proxy_got_status"),
    ];
    for (name, from, to) in changed {
        let file = directory.join(name).with_extension("wasm");
        fs::write(&file, replaced(from, to)).expect("a module is written");
        all.push((format!("unknown:{name}"), Filter::new("start").file(file)));
    }
    let open = |(name, filter): &(String, Filter)| (format!("{name}:open"), filter.clone().failing_open());
    let open: Vec<_> = all.iter().map(open).collect();
    [all, open].concat()
}

/// The module of filters with another name in the place of one of the same length.
fn replaced(from: &str, to: &str) -> Vec<u8> {
    let mut bytes = fs::read(module("wasmgate-test-filters")).expect("the module can be read");
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).expect("the name is there");
    bytes[at..][..to.len()].copy_from_slice(to.as_bytes());
    bytes
}

/// What the filters of a listener do of their own accord when they start.
pub fn start(listener: &str) -> Option<Lines> {
    match listener {
        "ticks" => Some(("root on_tick", 3)),
        "reads" | "writes" | "services" | "configured" | "calls_root" => {
            Some(("root on_http_call_response", 1))
        }
        "hello_world" => Some(("root on_tick", 1)),
        "trap_tick" | "open_tick" => Some(("error: as asked", 1)),
        _ => None,
    }
}

pub fn cases() -> Vec<Case> {
    let groups = [
        observe(),
        everywhere(),
        headers(),
        trailers(),
        bodies(),
        pauses(),
        locals(),
        calls(),
        grpc(),
        services(),
        streams(),
        chain(),
        traps(),
        former_versions(),
        examples(),
    ];
    groups.into_iter().flatten().map(Ask::case).chain(tcp()).collect()
}

/// Cases that Envoy does not survive: it goes on with a response that has ended, and crashes.
pub fn crashes_envoy(case: &Case) -> bool {
    let name = format!("{}/{}", case.listener, case.name);
    let deadly = [
        "pauses/response_trailers:inside",
        "pauses/response_trailers:ahead",
        "streams/response_trailers:continue:1",
        "locals/log:plain",
        "locals/log:headers",
        "locals/log:continue",
        "locals/done:plain",
        "locals/done:headers",
        "locals/done:continue",
        "streams/request_headers:continue:1",
        "streams/request_body:continue:1",
        "streams/request_trailers:continue:1",
        "streams/response_trailers:close:0",
        "streams/response_trailers:close:1",
        "streams/log:close:0",
        "streams/log:close:1",
        "streams/done:close:0",
        "streams/done:close:1",
    ];
    deadly.contains(&name.as_str())
}

fn observe() -> Vec<Ask> {
    let get = |target: &str| ask("observe", "").named(target).to(target);
    let large = filler(10_000_000);
    let pieces: Vec<&[u8]> = large.chunks(65_536).collect();
    let post = |name: &str| get("/length/1").named(name);
    let send = |request, method| vec![Step::Send(request), Step::Answer(method)];
    vec![
        get("/ok"),
        get("/a%20path/to?with=query&and=more"),
        get("/ok").named("repeated").with("X-Twice: 1").with("X-Other: o").with("X-Twice: 2").with("X-Empty:"),
        get("/ok").named("cookies").with("Cookie: a=1").with("Cookie: b=2"),
        get("/ok").named("hop-by-hop").with("Connection: close, X-Hop").with("X-Hop: 1").with("Keep-Alive: 5"),
        get("/ok").named("te").with("TE: trailers").with("Connection: TE"),
        get("/ok").named("latin").with("X-Latin: caf\u{e9}"),
        get("http://b.test/ok").named("absolute"),
        get("/length/5").method("HEAD").named("head"),
        get("/ok").method("DELETE").named("delete"),
        post("post-0").post(b""),
        post("post-1").post(b"x"),
        post("post-65536").post(&filler(65_536)),
        post("post-chunks-0").chunks(&[], ""),
        post("post-chunks-1").chunks(&[b"x"], ""),
        post("post-chunks-65536").chunks(&[&filler(65_536)], ""),
        post("post-chunks-10000000").chunks(&pieces, ""),
        post("post-trailers").chunks(&[b"hello"], "X-T: first\r\nX-U: u\r\nX-T: second\r\n"),
        post("post-trailers-only").chunks(&[], "X-T: first\r\n"),
        get("/echo").named("echo-65536").post(&filler(65_536)),
        get("/length/0"),
        get("/length/1"),
        get("/length/65536"),
        get("/chunks/0"),
        get("/chunks/1"),
        get("/chunks/65536"),
        get("/chunks/10000000"),
        get("/trailers"),
        get("/trailers").named("head-of-trailers").method("HEAD"),
        get("/repeated"),
        get("/status/204"),
        get("/status/304"),
        get("/status/404"),
        get("/status/500"),
        get("/status/503"),
        get("/eof"),
        get("/hints"),
        get("/processing"),
        get("/echo").named("expect-continue").post(b"hello").with("Expect: 100-continue"),
        get("/close"),
        get("/partial"),
        get("/partial-chunks"),
        get("/half-head"),
        get("/garbage"),
        get("/never"),
        get("/stalls"),
        get("/refused"),
        get("/refused/post").post(b"hello"),
        get("/early").post(b"hello").requests(1),
        get("/ok").named("no-route").until(&[]).steps(|_| {
            let request = b"GET /ok HTTP/1.1\r\nHost: nowhere.test\r\nX-Forwarded-Proto: http\r\n\r\n";
            vec![Step::Send(request.to_vec()), Step::Answer("GET")]
        }),
        get("/ok").named("client-leaves-early").steps(|_| {
            let part = b"POST /ok HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: http\r\nContent-Length: 10\r\n\r\n01234";
            vec![Step::Send(part.to_vec()), Step::Told("http on_request_body")]
        }),
        get("/never").named("client-leaves-while-waiting").steps(|request| {
            vec![Step::Send(request), Step::Requests(1)]
        }),
        get("/stalls").named("client-leaves-in-body").steps(|request| {
            vec![Step::Send(request), Step::Told("http on_response_body")]
        }),
        get("/ok").named("two-in-a-row").until(&[(DELETED.0, 2)]).steps(|request| {
            [send(request.clone(), "GET"), send(request, "GET")].concat()
        }),
        get("/ok").named("pipelined").until(&[(DELETED.0, 2)]).steps(|request| {
            let both = [request.clone(), request].concat();
            vec![Step::Send(both), Step::Answer("GET"), Step::Answer("GET")]
        }),
        get("/ok").named("bad-request").until(&[]).steps(|_| {
            send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: x\r\n\r\n".to_vec(), "GET")
        }),
    ]
}

/// All host functions in all phases.
fn everywhere() -> Vec<Ask> {
    let mut all = Vec::new();
    for listener in ["reads", "writes", "services", "configured"] {
        let phases = ask(listener, "phases").to("/trailers").with("X-Probe: 1");
        all.push(phases.chunks(&[b"hello"], "X-T: first\r\nX-Probe: t\r\n"));
        all.push(ask(listener, "callouts").with("X-Probe: 1"));
        all.push(ask(listener, "queue").until(&[DELETED, ("root on_queue_ready", 1)]));
    }
    all
}

fn headers() -> Vec<Ask> {
    let both = [
        "get",
        "add",
        "add-nameless",
        "add-pseudo",
        "replace",
        "remove",
        "set",
        "clear",
        "garbage",
        "empty",
        "many",
        "no-length",
        "breaking",
        "connection",
    ];
    let of_requests = [
        "path",
        "method",
        "scheme",
        "authority",
        "host",
        "no-path",
        "no-method",
        "no-authority",
        "no-host",
        "no-scheme",
    ];
    let of_responses =
        ["no-status", "status", "status-text", "status-large", "status-interim", "status-empty"];
    let request = both.iter().chain(&of_requests).map(|what| {
        let ask = ask("headers", &format!("request:{what}")).to("/repeated");
        ask.with("X-Once: once").with("X-Twice: 1").with("X-Twice: 2").with("X-Empty:").post(b"hello")
    });
    let response = both.iter().chain(&of_responses).map(|what| {
        let ask = ask("headers", &format!("response:{what}")).to("/repeated");
        if *what == "status-interim" { ask.hangs() } else { ask }
    });
    request.chain(response).collect()
}

fn trailers() -> Vec<Ask> {
    let whats = ["get", "change", "replace", "remove", "set", "clear"];
    let mut all: Vec<_> = whats
        .iter()
        .flat_map(|what| {
            let names = "Trailer: X-T, X-U, X-New, X-A, X-B";
            let request = ask("trailers", &format!("request:{what}")).with(names);
            let response = ask("trailers", &format!("response:{what}")).to("/trailers").with("TE: trailers");
            [request.chunks(&[b"hello"], "X-T: first\r\nX-U: u\r\nX-T: second\r\n"), response]
        })
        .collect();
    all.push(ask("trailers", "request:make").chunks(&[b"hello"], ""));
    all.push(ask("trailers", "request:make").named("request:make-with-length").post(b"hello"));
    all.push(ask("trailers", "response:make").to("/chunks/5"));
    all.push(ask("trailers", "response:make").named("response:make-with-length").to("/length/5"));
    all
}

fn bodies() -> Vec<Ask> {
    let whats = [
        "get",
        "prepend",
        "append",
        "append-at-end",
        "append-with-size",
        "replace",
        "replace-exactly",
        "same-keeping-length",
        "front",
        "middle",
        "insert",
        "tail",
        "clear",
        "grow",
        "several",
        "stream-begin",
        "stream-end",
        "stream-drop",
    ];
    let requests =
        whats.iter().map(|what| ask("bodies", &format!("request:{what}")).to("/echo").post(b"0123456789"));
    let responses = whats.iter().map(|what| ask("bodies", &format!("response:{what}")).to("/digits"));
    let mut all: Vec<_> = requests.chain(responses).collect();
    // Not of a request: what Envoy sends too much would be a part of the next one.
    all.push(ask("bodies", "response:replace-keeping-length").to("/digits"));
    let body = filler(200_000);
    all.push(ask("bodies", "request:stream-upper").to("/length/1").chunks(&[&body], ""));
    all.push(ask("bodies", "response:stream-upper").to("/chunks/200000"));
    all.push(ask("bodies", "response:replace").named("response:replace-chunks").to("/chunks/200000"));
    all.push(ask("bodies", "request:replace").named("request:replace-chunks").chunks(&[&body], ""));
    all.push(ask("bodies", "request:replace").named("request:replace-nothing"));
    all.push(ask("bodies", "response:replace").named("response:replace-nothing").to("/length/0"));
    all.push(
        ask("bodies", "response:replace").named("response:replace-of-head").method("HEAD").to("/digits"),
    );
    all
}

fn pauses() -> Vec<Ask> {
    let mut all = Vec::new();
    for phase in PHASES {
        // Trailers would let go on what stopped in the body.
        let (target, trailers) = match phase {
            "request_body" => ("/trailers", ""),
            "response_body" => ("/chunks/5", "X-T: first\r\n"),
            _ => ("/trailers", "X-T: first\r\n"),
        };
        for how in ["call", "read", "inside", "ahead", "local", "close"] {
            let ask = ask("pauses", &format!("{phase}:{how}")).to(target).chunks(&[b"hello"], trailers);
            all.push(match (phase, how) {
                ("request_headers" | "response_headers", "inside") => ask.hangs(),
                // Envoy sends the request twice.
                ("request_headers", "ahead") => ask.requests(2),
                _ => ask,
            });
        }
    }
    for phase in ["request_body", "response_body"] {
        let ask = ask("pauses", &format!("{phase}:gather")).to("/trailers");
        all.push(ask.chunks(&[b"hello"], "X-T: first\r\n"));
    }
    let pause = |wish: &str, name: &str| ask("pauses", wish).named(name);
    let large = filler(10_000_000);
    all.push(pause("request_headers:call", "request_headers:call-get"));
    all.push(pause("request_headers:call", "request_headers:call-10000000").to("/length/1").post(&large));
    all.push(pause("response_headers:call", "response_headers:call-10000000").to("/length/10000000"));
    all.push(
        pause("request_body:gather", "request_body:gather-500000").to("/length/1").post(&large[..500_000]),
    );
    all.push(pause("request_body:gather", "request_body:gather-too-much").to("/length/1").post(&large));
    all.push(pause("response_body:gather", "response_body:gather-500000").to("/length/500000"));
    all.push(pause("response_body:gather", "response_body:gather-too-much").to("/length/10000000"));
    all.push(pause("request_body:never", "request_body:never-65536").to("/ok").post(&large[..65_536]).steps(
        |request| {
            vec![Step::Send(request), Step::Told("http on_request_body(65536"), Step::Told("http on_request")]
        },
    ));
    all.push(pause("request_headers:never", "request_headers:never").steps(|request| {
        vec![Step::Send(request), Step::Told("http on_request_headers"), Step::Told("  -> Pause")]
    }));
    all.push(pause("response_headers:never", "response_headers:never").hangs());
    all.push(pause("response_body:never", "response_body:never").hangs());
    all
}

fn locals() -> Vec<Ask> {
    let whats = [
        "plain",
        "empty",
        "headers",
        "details",
        "grpc",
        "grpc-unknown",
        "large",
        "length",
        "status-header",
        "twice",
        "and-continue",
        "continue",
        "200",
        "204",
        "304",
        "103",
        "99",
        "1000",
    ];
    let mut all: Vec<_> = whats
        .iter()
        .map(|what| {
            let ask = ask("locals", &format!("request_headers:{what}"));
            if matches!(*what, "103" | "99" | "1000") { ask.hangs() } else { ask }
        })
        .collect();
    let local = |wish: &str, name: &str| ask("locals", wish).named(name);
    all.push(local("request_headers:plain", "to-head").method("HEAD"));
    all.push(local("request_headers:plain", "to-post").post(b"hello"));
    let grpc = "Content-Type: application/grpc";
    for what in ["plain", "grpc", "404", "headers"] {
        all.push(local(&format!("request_headers:{what}"), &format!("to-grpc:{what}")).with(grpc));
    }
    for phase in [
        "request_body",
        "request_trailers",
        "response_headers",
        "response_body",
        "response_trailers",
        "call",
        "log",
        "done",
    ] {
        for what in ["plain", "headers", "continue"] {
            let ask = ask("locals", &format!("{phase}:{what}")).to("/trailers");
            all.push(ask.chunks(&[b"hello"], "X-T: first\r\n"));
        }
    }
    all.push(local("response_headers:plain", "response-of-length").to("/length/5"));
    all.push(local("response_headers:plain", "response-of-10000000").to("/chunks/10000000"));
    all
}

fn calls() -> Vec<Ask> {
    let whats = [
        "ok",
        "post",
        "post-trailers",
        "trailers",
        "repeated",
        "length/0",
        "length/100000",
        "status/404",
        "status/503",
        "status/204",
        "hints",
        "unknown",
        "no-method",
        "no-path",
        "no-authority",
        "host",
        "timeout",
        "refused",
        "hidden-refused",
        "negative",
        "close",
        "partial",
        "half-head",
        "garbage",
        "eof",
        "ok,post",
        "ok,status/404,refused",
        "nested",
        "unknown,ok",
    ];
    let mut all: Vec<_> = whats.iter().map(|what| ask("calls", &format!("request_headers:{what}"))).collect();
    for phase in
        ["request_body", "request_trailers", "response_headers", "response_body", "response_trailers"]
    {
        // Trailers would let go on what stopped in the body.
        let whole = phase.ends_with("body");
        let (target, trailers) = if whole { ("/chunks/5", "") } else { ("/trailers", "X-T: first\r\n") };
        all.push(ask("calls", &format!("{phase}:ok")).to(target).chunks(&[b"hello"], trailers));
    }
    all.push(ask("calls_root", "none"));
    // The answer comes amid the stream, or when it has ended.
    all.push(
        ask("calls", "unwaited:ok")
            .to("/never")
            .requests(2)
            .steps(|request| vec![Step::Send(request), Step::Told("http on_http_call_response")]),
    );
    all.push(ask("calls", "unwaited:never").requests(2));
    all.push(ask("calls", "log:ok").requests(2));
    all.push(ask("calls", "done:ok").requests(2));
    all.push(
        ask("calls", "request_headers:never")
            .named("client-leaves")
            .steps(|request| vec![Step::Send(request), Step::Requests(1)]),
    );
    all
}

fn grpc() -> Vec<Ask> {
    let calls = [
        "Echo",
        "Empty",
        "Metadata",
        "Fail",
        "FailLater",
        "Nothing",
        "Many",
        "Http",
        "Reset",
        "unknown",
        "refused",
        "timeout",
        "cancel",
        "close",
        "service",
    ];
    let streams = [
        "end",
        "close",
        "empty",
        "talk",
        "Many",
        "Fail",
        "FailLater",
        "Http",
        "Reset",
        "unknown",
        "refused",
        "cancel",
        "cancel-later",
    ];
    let calls = calls.iter().map(|wish| ask("grpc_calls", wish));
    calls.chain(streams.iter().map(|wish| ask("grpc_streams", wish))).collect()
}

/// What does not belong to a single request.
fn services() -> Vec<Ask> {
    let each = |listener: &'static str, wishes: &[&str]| -> Vec<Ask> {
        wishes.iter().map(|wish| ask(listener, wish)).collect()
    };
    let several = [
        each("contexts", &["go-on", "change", "answer", "close", "back", "root"]),
        each("done", &["done"]),
        each("foreign", &["none", "compress", "state", "expression", "signature"]),
        vec![ask("foreign", "route")],
        each("levels", &["all"]),
        each("metrics", &["all"]),
        each("pointers", &["all"]),
        each("routes", &["none", "header", "path", "authority", "nowhere"]),
        each("shared", &["write", "read", "cas", "absent", "empty", "large"]),
        each("state", &["set", "declared"]),
        vec![ask("ticks", "again").until(&[DELETED, ("root on_tick", 3)])],
        vec![
            ask("queues", "one").until(&[DELETED, ("root on_queue_ready", 1)]),
            ask("queues", "several").until(&[DELETED, ("root on_queue_ready", 3)]),
            ask("queues", "empty-item").until(&[DELETED, ("root on_queue_ready", 1)]),
        ],
        each("queues", &["foreign", "unknown"]),
        each("wasi", &["all"]),
    ];
    let properties = |name: &str, target: &str| {
        let ask = ask("properties", "").named(name).to(target).with("X-Twice: 1").with("X-Once: o");
        ask.with("X-Twice: 2")
            .with("Referer: http://r.test/")
            .with("User-Agent: tests")
            .with("X-Request-Id: the-id")
    };
    let mut all: Vec<_> = several.into_iter().flatten().collect();
    all.push(properties("get", "/repeated?a=1&b=2"));
    all.push(properties("post", "/trailers").chunks(&[b"hello"], "X-T: first\r\n"));
    all.push(properties("length", "/length/10").post(b"hello"));
    all.push(properties("refused", "/refused"));
    all.push(properties("grpc", "/grpc").with("Content-Type: application/grpc"));
    all.push(properties("timeout", "/never"));
    all
}

fn streams() -> Vec<Ask> {
    let mut all = Vec::new();
    for phase in PHASES.into_iter().chain(["log", "done"]) {
        for what in ["continue:0", "continue:1", "close:0", "close:1"] {
            let ask = ask("streams", &format!("{phase}:{what}")).to("/trailers");
            let ask = ask.chunks(&[b"hello"], "X-T: first\r\n");
            // Envoy sends the request twice.
            let twice = (phase, what) == ("request_headers", "continue:0");
            all.push(if twice { ask.requests(2) } else { ask });
        }
    }
    for what in ["continue:2", "continue:3", "continue:4", "close:2", "close:3", "close:4"] {
        all.push(ask("streams", &format!("request_headers:{what}")));
    }
    all
}

fn chain() -> Vec<Ask> {
    let wishes = ["none", "b:answer", "b:answer-late", "b:close", "b:close-late", "a:answer", "c:answer"];
    wishes.iter().map(|wish| ask("chain", wish).until(&[(DELETED.0, 3)])).collect()
}

fn traps() -> Vec<Ask> {
    let mut all = Vec::new();
    for listener in TRAPS.iter().flat_map(|phase| [format!("trap_{phase}"), format!("open_{phase}")]) {
        let full = |name: &str| {
            let ask = ask(&listener, "").named(name).to("/trailers");
            ask.chunks(&[b"hello"], "X-T: first\r\n")
        };
        let ticks = listener.ends_with("tick");
        let first =
            if ticks { full("first").until(&[]) } else { full("first").until(&[("error: as asked", 1)]) };
        all.push(if listener.ends_with("http_call_response") { first.hangs() } else { first });
        all.push(full("second").until(&[]));
    }
    all
}

/// ABI 0.1.0 and 0.2.0.
fn former_versions() -> Vec<Ask> {
    let first = ["none", "request", "response", "route"].map(|wish| ask("abi_0_1_0", wish));
    let second = [
        "none",
        "request_headers:1",
        "request_headers:2",
        "request_headers:3",
        "request_headers:4",
        "request_headers:5",
        "request_body:1",
        "request_body:2",
        "request_body:3",
        "request_body:4",
        "request_trailers:1",
        "request_trailers:2",
        "response_headers:1",
        "response_headers:2",
        "response_headers:3",
        "response_headers:4",
        "response_body:1",
        "response_body:2",
        "response_body:3",
    ];
    let full = |ask: Ask| ask.to("/trailers").chunks(&[b"hello"], "X-T: first\r\n");
    // A tick amid a stream that does not stand still would come at any moment. Of a response the rest is there already.
    let goes_on =
        |wish: &str| ["none", "request_headers:2", "request_body"].iter().any(|one| wish.starts_with(one));
    let ticks = |request| vec![Step::Send(request), Step::Answer("POST"), Step::Told("root on_tick")];
    let second = second.map(|wish| match goes_on(wish) {
        true => full(ask("abi_0_2_0", wish)),
        false => full(ask("abi_0_2_0", &format!("{wish}:tick"))).named(wish).steps(ticks),
    });
    first.map(full).into_iter().chain(second).collect()
}

fn examples() -> Vec<Ask> {
    let get = |listener: &str, target: &str| ask(listener, "").named(target).to(target);
    let grpc = |wish: &str| ask("grpc_auth_random", wish).with("Content-Type: application/grpc").post(b"");
    vec![
        get("hello_world", "/ok"),
        get("http_headers", "/repeated").with("X-Own: 1"),
        get("http_headers", "/hello"),
        get("http_config", "/ok"),
        get("http_body", "/secret"),
        get("http_body", "/digits"),
        get("http_body", "/chunks/100000"),
        ask("http_auth_random", "even"),
        ask("http_auth_random", "odd"),
        get("grpc_auth_random", "/ok"),
        grpc("0").named("granted").to("/grpc"),
        grpc("7").named("forbidden").to("/grpc"),
        grpc("").named("reflection").to("/grpc.reflection"),
    ]
}

/// Bytes, past Envoy's filters of connections, to the HTTP upstream.
fn tcp() -> Vec<Case> {
    let request = b"GET /ok HTTP/1.1\r\nX-Tail: 1\r\n\r\n".to_vec();
    let case = |name: &str, steps: Vec<Step>| Case {
        listener: "tcp".to_owned(),
        name: name.to_owned(),
        steps,
        until: vec![("tcp on_delete", 1)],
        requests: 0,
    };
    let send = |text: &str| Step::Send(text.as_bytes().to_vec());
    vec![
        case("passes", vec![Step::Send(request), Step::Bytes(20)]),
        case("close", vec![send("close"), Step::End]),
        case("close-upstream", vec![send("close upstream"), Step::End]),
        case(
            "pause",
            vec![send("pause"), Step::Told("  -> Pause"), send("goon"), Step::Told("  continue_stream")],
        ),
        case("resume-upstream", vec![send("resume upstream"), Step::Told("  continue_stream"), Step::Finish]),
    ]
}
