//! Calls a group of host functions in every phase, those of root contexts and of callouts included.

use std::time::Duration;

use proxy_wasm::{
    hostcalls,
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType},
};

use super::wish;
use crate::host::{self, ALL, PLUGIN_CONFIG, VM_CONFIG, say};

/// Calls the group; the phase's name tells its traces apart.
type Probe = fn(&str);

pub struct Root {
    probe: Probe,
    ticked: bool,
    /// The queue that requests put something into.
    ready: Option<u32>,
}

struct Everywhere {
    probe: Probe,
    wish: String,
    stream: Option<u32>,
}

/// Every function that reads, of every map and buffer, one that does not exist included.
pub fn reads(_: &str) {
    for map in 0..=8 {
        host::map_size(map);
        host::get_pairs(map);
        host::get_value(map, "x-probe");
    }
    for buffer in 0..=9 {
        host::get_buffer(buffer, 0, ALL);
        host::buffer_status(buffer);
    }
    host::get_property(&["plugin_name"]);
    host::get_property(&["request", "path"]);
    host::get_property(&["response", "code"]);
    host::get_property(&["none"]);
    host::get_status();
}

/// Every function that writes, into every map and buffer.
pub fn writes(phase: &str) {
    for map in 0..=8 {
        host::add(map, "x-added", phase.as_bytes());
        host::replace(map, "x-replaced", phase.as_bytes());
        host::remove(map, "x-probe");
        let pairs = hostpairs(map);
        let borrowed: Vec<_> =
            pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        host::set_pairs(map, &borrowed);
    }
    for buffer in 0..=9 {
        host::set_buffer(buffer, ALL, 0, b"+");
    }
    host::set_property(&["everywhere"], phase.as_bytes());
}

fn hostpairs(map: u32) -> host::Pairs {
    host::get_pairs(map).unwrap_or_default()
}

/// What belongs to no request: time, log level, shared data, queues, metrics, contexts, foreign functions.
pub fn services(phase: &str) {
    host::get_log_level();
    let (status, time) = host::current_time();
    say(format!("current_time = {} {}", host::status_name(status), if time > 0 { "set" } else { "unset" }));
    host::set_tick_period(0);
    host::set_shared("everywhere", phase.as_bytes(), 0);
    host::get_shared("everywhere");
    host::get_shared("none");
    if let Some(queue) = host::resolve_queue("", "everywhere").or_else(|| host::register_queue("everywhere"))
    {
        host::enqueue(queue, phase.as_bytes());
        host::dequeue(queue);
        // Envoy's main thread has a VM that ticks at the same time: what is there still may be what that one put there.
        if !matches!(phase, "tick" | "root http_call_response") {
            host::dequeue(queue);
        }
    }
    for kind in 0..=3 {
        if let Some(metric) = host::define_metric(kind, &format!("everywhere_{kind}")) {
            host::increment_metric(metric, 1);
            host::record_metric(metric, 7);
            // Its value is that of all threads, and there is no telling how many there are.
            say(format!("get_metric = {}", host::status_name(host::metric_status(metric))));
        }
    }
    say(format!(
        "set_effective_context(unknown) = {}",
        host::status_name(host::set_effective_context(99_999))
    ));
    host::call_foreign("uncompress", b"no zlib");
    host::call_foreign("none", b"");
    host::continue_stream(4);
    host::close_stream(4);
    host::grpc_cancel(99_999);
    host::grpc_close(99_999);
    host::grpc_send(99_999, b"", false);
    host::refused_http_call("nowhere", &[(b":method", b"GET"), (b":path", b"/"), (b":authority", b"a")], 10);
    // Root contexts that are still needed must not end: a stream has nothing to be done with.
    if phase.starts_with("request") || phase.starts_with("response") {
        host::done();
    }
}

impl Root {
    pub fn boxed(probe: Probe) -> Box<dyn RootContext> {
        Box::new(Root { probe, ticked: false, ready: None })
    }
}

impl Context for Root {
    fn on_done(&mut self) -> bool {
        (self.probe)("root done");
        true
    }

    fn on_http_call_response(&mut self, _: u32, _: usize, _: usize, _: usize) {
        (self.probe)("root http_call_response");
    }
}

impl RootContext for Root {
    fn on_vm_start(&mut self, _: usize) -> bool {
        (self.probe)("vm_start");
        true
    }

    fn on_configure(&mut self, _: usize) -> bool {
        host::get_buffer(VM_CONFIG, 0, ALL);
        host::get_buffer(PLUGIN_CONFIG, 0, ALL);
        (self.probe)("configure");
        self.ready = host::register_queue("ready");
        host::set_tick_period(20);
        true
    }

    fn on_tick(&mut self) {
        // One more may be under way already.
        if !self.ticked {
            self.ticked = true;
            host::set_tick_period(0);
            (self.probe)("tick");
            call("/ok");
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        // Not that of the probes: each would call for the next one.
        if self.ready == Some(queue) {
            (self.probe)("queue_ready");
            host::dequeue(queue);
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Everywhere { probe: self.probe, wish: String::new(), stream: None }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn call(path: &str) {
    let headers = vec![(":method", "GET"), (":path", path), (":authority", "call.test")];
    let called = hostcalls::dispatch_http_call("call", headers, None, vec![], Duration::from_secs(5));
    say(format!(
        "dispatch_http_call({path}) = {}",
        called.map_or_else(|e| format!("{e:?}"), |_| "Ok".into())
    ));
}

impl Context for Everywhere {
    fn on_http_call_response(&mut self, _: u32, _: usize, _: usize, _: usize) {
        (self.probe)("http_call_response");
        let second = Duration::from_secs(5);
        let called =
            hostcalls::dispatch_grpc_call("grpc", "test.Test", "Echo", vec![], Some(b"hi"), second).is_ok();
        say(format!("dispatch_grpc_call: {called}"));
    }

    fn on_grpc_call_response(&mut self, _: u32, _: u32, _: usize) {
        (self.probe)("grpc_call_response");
        self.stream = hostcalls::open_grpc_stream("grpc", "test.Test", "Stream", vec![]).ok();
        if let Some(stream) = self.stream {
            host::grpc_send(stream, b"hi", true);
        }
    }

    fn on_grpc_stream_initial_metadata(&mut self, _: u32, _: u32) {
        (self.probe)("grpc_initial_metadata");
    }

    fn on_grpc_stream_message(&mut self, _: u32, _: usize) {
        (self.probe)("grpc_message");
    }

    fn on_grpc_stream_trailing_metadata(&mut self, _: u32, _: u32) {
        (self.probe)("grpc_trailing_metadata");
    }

    fn on_grpc_stream_close(&mut self, _: u32, _: u32) {
        (self.probe)("grpc_close");
        host::continue_stream(0);
    }

    fn on_done(&mut self) -> bool {
        (self.probe)("done");
        true
    }
}

impl HttpContext for Everywhere {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.wish = wish();
        match self.wish.as_str() {
            "callouts" => {
                call("/trailers");
                return Action::Pause;
            }
            "queue" => {
                if let Some(queue) = host::resolve_queue("", "ready") {
                    host::enqueue(queue, b"item");
                }
            }
            _ => (self.probe)("request_headers"),
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, _: usize, end: bool) -> Action {
        // Of a body with trailers the last chunk cannot be told from the others: the probe is for the first.
        if self.wish == "phases" && !end {
            self.wish = "phases, body seen".into();
            (self.probe)("request_body");
        }
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        (self.probe)("request_trailers");
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        if self.wish.starts_with("phases") {
            (self.probe)("response_headers");
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, _: bool) -> Action {
        if self.wish == "phases, body seen" && size > 0 {
            self.wish = "phases, both bodies seen".into();
            (self.probe)("response_body");
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        (self.probe)("response_trailers");
        Action::Continue
    }

    fn on_log(&mut self) {
        if self.wish.starts_with("phases") {
            (self.probe)("log");
        }
    }
}

impl Drop for Everywhere {
    fn drop(&mut self) {
        if self.wish.starts_with("phases") {
            (self.probe)("delete");
        }
    }
}
