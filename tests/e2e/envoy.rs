//! proxy-wasm filters in wasmgate and in the real Envoy: the same module, requests and upstreams, and the same
//! outcome, but for the differences in `tests/golden/envoy/differences.toml`, each of which has its reason.
//!
//! What Envoy does is recorded in `tests/golden/envoy`: where Envoy is there, that it still does so is a test of its
//! own, and UPDATE_GOLDEN=1 records it anew.

mod cases;
mod upstream;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::SocketAddr,
    panic::resume_unwind,
    path::PathBuf,
    thread,
};

use upstream::upstream;
use wasmgate_tests::{
    Accepted, Case, Destinations, Difference, Envoy, FilterListener, Filtering, GrpcService, Recorder,
    Recording, Recordings, Reserved, TestGateway, TestUpstream, differences, envoy_config, eventually, fence,
    from_json, gateway_config, module, request, run, to_json,
};

/// What filters and routes lead to.
struct Surroundings {
    app: TestUpstream,
    other: TestUpstream,
    call: TestUpstream,
    grpc: GrpcService,
    refused: Reserved,
}

impl Surroundings {
    fn start() -> Surroundings {
        let (app, other, call) = (upstream("app"), upstream("other"), upstream("call"));
        Surroundings { app, other, call, grpc: GrpcService::start(), refused: Reserved::new() }
    }

    fn destinations(&self) -> Destinations {
        Destinations {
            app: self.app.address(),
            other: self.other.address(),
            call: self.call.address(),
            grpc: self.grpc.address(),
            refused: self.refused.address(),
        }
    }

    fn upstreams(&self) -> [(&'static str, &TestUpstream); 3] {
        [("app", &self.app), ("other", &self.other), ("call", &self.call)]
    }
}

/// Recordings by listener.
type All = BTreeMap<String, Recordings>;

/// At once, since most of the time goes into waiting.
const GATEWAYS: usize = 4;

/// Runs every case, on several gateways with upstreams of their own, each of which has some of the listeners. Some
/// cases a gateway `cannot` be asked for, for a reason.
fn record(
    start: impl Fn(&[FilterListener], &Destinations) -> Box<dyn Filtering> + Sync,
    cannot: fn(&Case) -> Option<&'static str>,
) -> All {
    let mut groups = vec![Vec::new(); GATEWAYS];
    for (number, listener) in cases::listeners().into_iter().enumerate() {
        groups[number % GATEWAYS].push(listener);
    }
    thread::scope(|scope| {
        let run = |group: Vec<FilterListener>| {
            let surroundings = Surroundings::start();
            let listeners = [group.clone(), vec![fence()]].concat();
            let mut gateway = start(&listeners, &surroundings.destinations());
            record_some(&mut *gateway, &surroundings, &group, cannot)
        };
        let parts: Vec<_> = groups.into_iter().map(|group| scope.spawn(move || run(group))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_else(|fault| resume_unwind(fault))).collect()
    })
}

/// Runs the cases of these listeners one after the other, and ends the gateway.
fn record_some(
    gateway: &mut dyn Filtering,
    surroundings: &Surroundings,
    listeners: &[FilterListener],
    cannot: fn(&Case) -> Option<&'static str>,
) -> All {
    let upstreams = surroundings.upstreams();
    let mut recorder = Recorder::new(gateway, &upstreams);
    let mut all = All::new();
    for listener in listeners {
        recorder.start(&listener.plugins(), cases::start(&listener.name));
    }
    for listener in listeners {
        let plugins = listener.plugins();
        let own = all.entry(listener.name.clone()).or_default();
        for case in cases::cases().into_iter().filter(|case| case.listener == listener.name) {
            let recording = match cannot(&case) {
                None => recorder.record(&case, &plugins),
                Some(reason) => Recording { answer: vec![reason.to_owned()], ..Recording::default() },
            };
            own.insert(case.name, recording);
        }
        own.insert("start".to_owned(), recorder.started(&plugins));
        if listener.name == "metrics" {
            own.insert("page".to_owned(), recorder.metrics("test_"));
        }
    }
    recorder.stop();
    for listener in listeners {
        let own = all.entry(listener.name.clone()).or_default();
        own.insert("stop".to_owned(), recorder.rest(&listener.plugins()));
    }
    all
}

fn golden() -> PathBuf {
    wasmgate_build::workspace().join("tests/golden/envoy")
}

fn recorded() -> All {
    let files = fs::read_dir(golden()).expect("recordings").flatten().map(|entry| entry.path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    let name = |file: &PathBuf| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    files.map(|file| (name(&file), from_json(&fs::read_to_string(file).expect("a recording")))).collect()
}

/// The table of differences that are meant.
fn accepted() -> Accepted {
    let table = fs::read_to_string(golden().join("differences.toml")).expect("the table of differences");
    Accepted::parse(&table)
}

/// What differs, case by case; a case that only one of both has differs as a whole.
fn compared(envoy: &All, wasmgate: &All) -> Vec<Difference> {
    let of = |all: &All, listener: &str, case: &str| {
        all.get(listener).and_then(|cases| cases.get(case)).cloned().unwrap_or_default()
    };
    let named = envoy.iter().chain(wasmgate);
    let names: BTreeSet<_> = named.flat_map(|(l, cases)| cases.keys().map(move |case| (l, case))).collect();
    let each = names.into_iter().flat_map(|(listener, case)| {
        let (envoy, wasmgate) = (of(envoy, listener, case), of(wasmgate, listener, case));
        differences(&format!("{listener}/{case}"), &envoy, &wasmgate)
    });
    each.collect()
}

#[test]
fn envoy_does_what_is_recorded() {
    let Some(program) = Envoy::program() else { return };
    let start = |listeners: &[FilterListener], to: &Destinations| -> Box<dyn Filtering> {
        let envoy = Envoy::start(&program, envoy_config(listeners, to));
        Box::new(envoy.unwrap_or_else(|log| panic!("Envoy does not start:\n{log}")))
    };
    check_recorded(&record(start, |case| cases::crashes_envoy(case).then_some("crashes")));
}

/// Envoy still does what is recorded; with UPDATE_GOLDEN=1 it is recorded anew.
fn check_recorded(now: &All) {
    if env::var_os("UPDATE_GOLDEN").is_some() {
        for (listener, recordings) in now {
            fs::write(golden().join(listener).with_extension("json"), to_json(recordings)).unwrap();
        }
    }
    let mut recorded = recorded();
    recorded
        .retain(|listener, _| now.contains_key(listener) || (listener == START) == now.contains_key(START));
    let changed = compared(&recorded, now);
    let lines: Vec<_> = changed.iter().map(|change| change.told("recorded", "now")).collect();
    assert!(lines.is_empty(), "UPDATE_GOLDEN=1 records anew:\n{}", lines.join("\n"));
}

#[test]
fn filters_do_the_same_in_wasmgate_as_in_envoy() {
    let start = |listeners: &[FilterListener], to: &Destinations| -> Box<dyn Filtering> {
        Box::new(TestGateway::start(&gateway_config(listeners, to)))
    };
    let all = record(start, |case| (case.listener == "tcp").then_some("only HTTP"));
    let mut recorded = recorded();
    recorded.remove(START);
    let faults = accepted().judge(&compared(&recorded, &all));
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}

/// What becomes of filters that do not start.
const START: &str = "start";

/// Whether a gateway starts with a filter, and what it answers then.
fn starts(case: &str, gateway: Option<SocketAddr>) -> (String, Recording) {
    let answer = match gateway {
        Some(address) => format!("starts and answers {}", request(address, "GET", "/ok", "").status),
        None => "refused".to_owned(),
    };
    (case.to_owned(), Recording { answer: vec![answer], ..Recording::default() })
}

#[test]
fn filters_that_do_not_start_are_refused_as_by_envoy() {
    let surroundings = Surroundings::start();
    let to = surroundings.destinations();
    let directory = tempfile::tempdir().unwrap();
    let filters = cases::failing_to_start(directory.path());
    let wasmgate = filters.iter().map(|(case, filter)| {
        let config = gateway_config(&[filter.clone().into()], &to);
        let mut gateway = TestGateway::launch(&config, &[], |_| {});
        eventually!(!gateway.is_running() || gateway.log().contains(" ready "), "{case}: {}", gateway.log());
        let running = gateway.is_running().then(|| gateway.listener(&filter.name));
        starts(case, running)
    });
    let wasmgate = All::from([(START.to_owned(), wasmgate.collect())]);
    if let Some(program) = Envoy::program() {
        let envoy = filters.iter().map(|(case, filter)| {
            let started = Envoy::start(&program, envoy_config(&[filter.clone().into()], &to)).ok();
            starts(case, started.as_ref().map(|envoy| envoy.listener(&filter.name)))
        });
        check_recorded(&All::from([(START.to_owned(), envoy.collect())]));
    }
    let mut recorded = recorded();
    recorded.retain(|listener, _| listener == START);
    assert_eq!(compared(&recorded, &wasmgate), [], "what does not start is refused, whatever its policy");
}

/// Of ABI 0.1.0, 0.2.0 and 0.2.1, without those of bare connections.
const HOST_FUNCTIONS: &[&str] = &[
    "proxy_add_header_map_value",
    "proxy_call_foreign_function",
    "proxy_clear_route_cache",
    "proxy_close_stream",
    "proxy_continue_request",
    "proxy_continue_response",
    "proxy_continue_stream",
    "proxy_define_metric",
    "proxy_dequeue_shared_queue",
    "proxy_done",
    "proxy_enqueue_shared_queue",
    "proxy_get_buffer_bytes",
    "proxy_get_buffer_status",
    "proxy_get_configuration",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_size",
    "proxy_get_header_map_value",
    "proxy_get_log_level",
    "proxy_get_metric",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_get_status",
    "proxy_grpc_call",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_grpc_send",
    "proxy_grpc_stream",
    "proxy_http_call",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_register_shared_queue",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_resolve_shared_queue",
    "proxy_send_local_response",
    "proxy_set_buffer_bytes",
    "proxy_set_effective_context",
    "proxy_set_header_map_pairs",
    "proxy_set_property",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
];

/// As the filters tell of them: root and stream contexts have some of the same name.
const CALLBACKS: &[&str] = &[
    "root on_context_create",
    "root on_vm_start(",
    "root on_configure(",
    "root on_tick",
    "root on_queue_ready",
    "root on_http_call_response(",
    "root on_done",
    "root on_delete",
    "http on_context_create",
    "http on_request_headers(",
    "http on_request_body(",
    "http on_request_trailers(",
    "http on_response_headers(",
    "http on_response_body(",
    "http on_response_trailers(",
    "http on_http_call_response(",
    "http on_grpc_call_response(",
    "http on_grpc_stream_initial_metadata(",
    "http on_grpc_stream_message(",
    "http on_grpc_stream_trailing_metadata(",
    "http on_grpc_stream_close(",
    "http on_log",
    "http on_done",
    "http on_delete",
];

#[test]
fn every_host_function_and_callback_has_its_case() {
    let modules = ["wasmgate-test-filters", "wasmgate-test-filters-0-1-0", "wasmgate-test-filters-0-2-0"];
    let imports = modules.map(|name| run(&["inspect", &module(name).to_string_lossy()]).out).concat();
    let lacks = |name: &&&str| !imports.contains(&format!("env.{name}\n"));
    let unused: Vec<_> = HOST_FUNCTIONS.iter().filter(lacks).collect();
    assert!(unused.is_empty(), "no filter calls {unused:?}");
    let recorded = recorded();
    let all: Vec<_> = recorded.values().flat_map(BTreeMap::values).flat_map(|case| &case.log).collect();
    let untold: Vec<_> =
        CALLBACKS.iter().filter(|name| !all.iter().any(|line| line.starts_with(**name))).collect();
    assert!(untold.is_empty(), "no recording tells of {untold:?}");
}
