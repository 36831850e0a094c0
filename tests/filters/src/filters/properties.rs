//! Reads every property that a filter may ask for, in the phases in which it may become known.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use crate::host::{begin, parsed, property, say, status_name, text};

pub struct Properties;

/// How the bytes of a value are read.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Bool,
    Time,
    Duration,
    Map,
    /// Of a kind that only Envoy knows: whether there is something is all that is told.
    Message,
}

use Kind::{Bool, Map, Message, Number, Text};

const PROPERTIES: &[(&[&str], Kind)] = &[
    (&["plugin_name"], Text),
    (&["plugin_root_id"], Text),
    (&["plugin_vm_id"], Text),
    (&["connection_id"], Message),
    (&["request", "path"], Text),
    (&["request", "url_path"], Text),
    (&["request", "host"], Text),
    (&["request", "scheme"], Text),
    (&["request", "method"], Text),
    (&["request", "headers"], Map),
    (&["request", "headers", "x-twice"], Text),
    (&["request", "headers", "X-Once"], Text),
    (&["request", "headers", ":path"], Text),
    (&["request", "headers", "none"], Text),
    (&["request", "referer"], Text),
    (&["request", "useragent"], Text),
    (&["request", "time"], Kind::Time),
    (&["request", "id"], Text),
    (&["request", "protocol"], Text),
    (&["request", "query"], Text),
    (&["request", "duration"], Kind::Duration),
    (&["request", "size"], Number),
    (&["request", "total_size"], Number),
    (&["request", "headers_bytes"], Number),
    (&["request", "none"], Text),
    (&["request"], Map),
    (&["request.path"], Text),
    (&["response", "code"], Number),
    (&["response", "code_details"], Text),
    (&["response", "flags"], Number),
    (&["response", "grpc_status"], Number),
    (&["response", "headers"], Map),
    (&["response", "headers", "x-upstream"], Text),
    (&["response", "trailers"], Map),
    (&["response", "size"], Number),
    (&["response", "total_size"], Number),
    (&["response", "headers_bytes"], Number),
    (&["response", "backend_latency"], Kind::Duration),
    (&["connection", "id"], Message),
    (&["connection", "mtls"], Bool),
    (&["connection", "requested_server_name"], Text),
    (&["connection", "tls_version"], Text),
    (&["connection", "subject_local_certificate"], Text),
    (&["connection", "subject_peer_certificate"], Text),
    (&["connection", "dns_san_local_certificate"], Text),
    (&["connection", "dns_san_peer_certificate"], Text),
    (&["connection", "uri_san_local_certificate"], Text),
    (&["connection", "uri_san_peer_certificate"], Text),
    (&["connection", "sha256_peer_certificate_digest"], Text),
    (&["connection", "termination_details"], Text),
    (&["connection", "transport_failure_reason"], Text),
    (&["source", "address"], Text),
    (&["source", "port"], Number),
    (&["destination", "address"], Text),
    (&["destination", "port"], Number),
    (&["upstream", "address"], Text),
    (&["upstream", "port"], Number),
    (&["upstream", "local_address"], Text),
    (&["upstream", "transport_failure_reason"], Text),
    (&["upstream", "cx_pool_ready_duration"], Kind::Duration),
    (&["upstream", "request_attempt_count"], Number),
    (&["upstream", "num_endpoints"], Number),
    (&["upstream", "tls_version"], Text),
    (&["upstream", "locality"], Message),
    (&["metadata"], Message),
    (&["metadata", "filter_metadata", "test", "key"], Text),
    (&["filter_state"], Map),
    (&["filter_state", "none"], Text),
    (&["upstream_filter_state"], Map),
    (&["xds", "node"], Message),
    (&["xds", "node", "id"], Text),
    (&["xds", "node", "cluster"], Text),
    (&["xds", "node", "metadata", "NAME"], Text),
    (&["xds", "cluster_name"], Text),
    (&["xds", "cluster_metadata"], Message),
    (&["xds", "route_name"], Text),
    (&["xds", "route_metadata"], Message),
    (&["xds", "virtual_host_name"], Text),
    (&["xds", "virtual_host_metadata"], Message),
    (&["xds", "filter_chain_name"], Text),
    (&["xds", "listener_direction"], Number),
    (&["xds", "listener_metadata"], Message),
    (&["xds", "upstream_host_metadata"], Message),
    (&["xds", "upstream_host_locality_metadata"], Message),
    (&["node"], Message),
    (&["node", "id"], Text),
    (&["cluster_name"], Text),
    (&["cluster_metadata"], Message),
    (&["route_name"], Text),
    (&["route_metadata"], Message),
    (&["listener_direction"], Number),
    (&["listener_metadata"], Message),
    (&["upstream_host_metadata"], Message),
    (&["none"], Text),
    (&[""], Text),
    (&[], Text),
];

fn tell_all() {
    for (path, kind) in PROPERTIES {
        match property(path) {
            Ok(value) => say(format!("{} = {}", path.join("."), shown(&value, *kind))),
            Err(status) => say(format!("{} = {}", path.join("."), status_name(status))),
        }
    }
}

fn shown(value: &[u8], kind: Kind) -> String {
    let number = value.try_into().ok().map(i64::from_le_bytes);
    match (kind, number) {
        (Kind::Text, _) => text(value),
        (Kind::Number, Some(number)) => number.to_string(),
        (Kind::Time, Some(time)) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let age = now.saturating_sub(Duration::from_nanos(time as u64));
            if age < Duration::from_secs(60) { "now".to_owned() } else { format!("not now: {time}") }
        }
        (Kind::Duration, Some(duration)) => {
            if (0..60_000_000_000).contains(&duration) {
                "short".to_owned()
            } else {
                duration.to_string()
            }
        }
        (Kind::Bool, _) => format!("{value:?}"),
        (Kind::Map, _) => map(value),
        (Kind::Message, _) => if value.is_empty() { "empty" } else { "something" }.to_owned(),
        (_, None) => format!("not 8 bytes but {}", text(value)),
    }
}

fn map(value: &[u8]) -> String {
    let Some(mut pairs) = parsed(value) else { return format!("no map: {}", text(value)) };
    // The order of a map means nothing.
    pairs.sort();
    let each = pairs.iter().map(|(name, value)| format!("{}: {}", name.escape_ascii(), text(value)));
    each.collect::<Vec<_>>().join(", ")
}

impl Context for Properties {
    fn on_done(&mut self) -> bool {
        tell_all();
        true
    }
}

impl HttpContext for Properties {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        tell_all();
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        tell_all();
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        begin("trailers are there");
        Action::Continue
    }

    fn on_log(&mut self) {
        tell_all();
    }
}
