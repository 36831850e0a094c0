//! What is known of a stream beside its messages, by path: Envoy's attributes, also under the names that they
//! had until version 1.33. Numbers cross the border as eight bytes, times and durations as nanoseconds.
//!
//! What filters set is a variable of the request, `wasm.` before its name: native plugins read it under that
//! name, and filters read the variables of native plugins as `filter_state`.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use http::{HeaderMap, Version, header};
use serde_json::{Map as JsonMap, Value};

use super::{attribute::Attribute, functions, maps::Map};
use crate::{
    config::Node,
    grpc,
    plugin::exchange::{State, Tls},
    wasm::proxy_wasm::{
        abi::{Answer, Fault, Status},
        call::Call,
        context::{Root, Stream, VmData},
        proto,
    },
};

functions! {
    proxy_get_property(path: u32, path_size: u32, at_out: u32, size_out: u32) => get;
    proxy_set_property(path: u32, path_size: u32, value: u32, size: u32) => set;
}

fn get(call: &mut Call<'_>, path: u32, path_size: u32, at_out: u32, size_out: u32) -> Answer {
    let path = call.text(path, path_size)?;
    let parts: Vec<&str> = path.split('\0').collect();
    let value = value(call.data(), &parts)?.encode()?;
    call.give(&value, at_out, size_out)
}

fn set(call: &mut Call<'_>, path: u32, path_size: u32, value: u32, size: u32) -> Answer {
    let path = call.text(path, path_size)?;
    let value = call.copy(value, size)?;
    let data = call.data();
    let name = format!("wasm.{path}");
    let stream = data.stream().ok_or(Status::NotFound)?;
    // Once it is over nobody looks any more.
    let Some(state) = stream.state.as_deref_mut() else { return Ok(()) };
    state.put_var(name, value).map_err(|_| Fault::Status(Status::InternalFailure))
}

/// What there is of attributes that have parts, by path: an expression that names one of them may ask for any.
const GROUPS: [(&[&str], &str); 9] = [
    (
        &["request"],
        "path url_path query host scheme method referer useragent id protocol headers time duration size \
         headers_bytes total_size",
    ),
    (&["response"], "code code_details flags grpc_status headers trailers size headers_bytes total_size"),
    (&["connection"], "id mtls requested_server_name tls_version"),
    (&["source"], "address port"),
    (&["destination"], "address port"),
    (&["upstream"], "address port locality transport_failure_reason request_attempt_count num_endpoints"),
    (
        &["xds"],
        "node cluster_name cluster_metadata route_name route_metadata virtual_host_name \
         virtual_host_metadata filter_chain_name listener_direction listener_metadata",
    ),
    (&["xds", "node"], NODE),
    (&["node"], NODE),
];
const NODE: &str = "id cluster metadata";

fn group(path: &[&str]) -> Option<&'static str> {
    GROUPS.iter().find(|(group, _)| *group == path).map(|(_, keys)| *keys)
}

fn value(data: &mut VmData, path: &[&str]) -> Answer<Attribute> {
    if let Some(value) = known(data, path) {
        return Ok(value);
    }
    let asked = |stream: &mut Stream| stream.state.as_ref().is_some_and(|state| state.asked.is_some());
    let is_group = match (data.stream(), path) {
        (Some(_), [""] | ["filter_state"]) => true,
        (Some(_), path) if group(path).is_some() => true,
        (Some(stream), ["upstream_filter_state"]) => asked(stream),
        (Some(stream), ["xds", "upstream_host_metadata" | "upstream_host_locality_metadata"]) => {
            asked(stream)
        }
        _ => false,
    };
    Err(if is_group { Status::SerializationFailure } else { Status::NotFound }.into())
}

/// With all that is in a group.
pub fn tree(data: &mut VmData, path: &[&str]) -> Option<Attribute> {
    if path == ["filter_state"] {
        let entry =
            |(name, value): (&str, &[u8])| (name.as_bytes().to_vec(), Attribute::Bytes(value.to_vec()));
        return Some(Attribute::Map(data.state()?.vars().map(entry).collect()));
    }
    let Some(keys) = group(path) else { return known(data, path) };
    let entry = |key: &str| Some((key.as_bytes().to_vec(), tree(data, &[path, &[key]].concat())?));
    let entries: Vec<_> = keys.split(' ').filter_map(entry).collect();
    (!entries.is_empty()).then_some(Attribute::Map(entries))
}

/// None where there is no such thing, or not yet.
fn known(data: &mut VmData, path: &[&str]) -> Option<Attribute> {
    let (first, rest) = path.split_first()?;
    if let Some(value) = data.root().ok().and_then(|root| of_root(root, path)) {
        return Some(value);
    }
    match (*first, rest) {
        ("plugin_vm_id", []) => return text(&data.guest.vm_id),
        ("xds", rest) => return of_config(data.state()?, rest),
        (
            "cluster_name"
            | "route_name"
            | "listener_direction"
            | "cluster_metadata"
            | "route_metadata"
            | "listener_metadata"
            | "upstream_host_metadata",
            [],
        ) => return of_config(data.state()?, path),
        ("upstream", ["num_endpoints"]) => {
            let name = upstream_of(data.state()?)?.clone();
            return number(data.root().ok()?.services.upstreams.get(&name)?.endpoints() as u64);
        }
        _ => {}
    }
    let is_text = data.declared.get(*first) == Some(&proto::TEXT);
    let stream = data.stream()?;
    let state = stream.state.as_deref()?;
    match (*first, rest) {
        ("request", rest) => of_request(stream, state, rest),
        ("response", rest) => of_response(stream, state, rest),
        ("connection", [key]) => of_connection(state, key),
        ("connection_id", []) => Some(Attribute::Uint(state.connection.id)),
        ("source", [key]) => of_address(state.connection.peer, key),
        ("destination", [key]) => of_address(state.connection.local, key),
        ("upstream", [key]) => of_upstream(state, key),
        ("metadata", []) => Some(NONE),
        ("filter_state", [key]) => state.var(key).map(|value| Attribute::Bytes(value.to_vec())),
        (name, _) => {
            let value = state.var(&format!("wasm.{name}"))?.to_vec();
            Some(if is_text { Attribute::Text(value) } else { Attribute::Bytes(value) })
        }
    }
}

fn of_root(root: &Root, path: &[&str]) -> Option<Attribute> {
    match path {
        ["plugin_name"] => text(&root.plugin.name),
        ["plugin_root_id"] => text(&root.settings.root_id),
        ["xds", "node", path @ ..] | ["node", path @ ..] => of_node(&root.settings.node, path),
        _ => None,
    }
}

fn of_node(node: &Node, path: &[&str]) -> Option<Attribute> {
    match path {
        [] => Some(Attribute::Bytes(proto::node(node))),
        ["id"] => text(&node.id),
        ["cluster"] => text(&node.cluster),
        ["metadata"] => Some(map(&node.metadata)),
        ["metadata", first, rest @ ..] => {
            let first = node.metadata.get(*first)?;
            rest.iter().try_fold(first, |value, key| value.get(key)).map(json)
        }
        _ => None,
    }
}

fn map(map: &JsonMap<String, Value>) -> Attribute {
    Attribute::Map(map.iter().map(|(name, value)| (name.as_bytes().to_vec(), json(value))).collect())
}

fn json(value: &Value) -> Attribute {
    match value {
        Value::Null => Attribute::Null,
        Value::Bool(value) => Attribute::Bool(*value),
        Value::Number(value) => value.as_f64().map_or(Attribute::Null, Attribute::Double),
        Value::String(value) => Attribute::text(value),
        Value::Array(values) => Attribute::List(values.iter().map(json).collect()),
        Value::Object(value) => map(value),
    }
}

/// What Envoy knows of its own configuration. Nothing has metadata here but the node.
fn of_config(state: &State, path: &[&str]) -> Option<Attribute> {
    match path {
        ["cluster_name"] => text(upstream_of(state)?),
        ["route_name"] => text(&state.route),
        ["virtual_host_name" | "filter_chain_name"] => text(""),
        ["listener_direction"] => number(0),
        ["cluster_metadata" | "route_metadata" | "listener_metadata" | "virtual_host_metadata"] => Some(NONE),
        _ => None,
    }
}

/// Where the request went, or goes if nobody says otherwise.
fn upstream_of(state: &State) -> Option<&Arc<str>> {
    let asked = state.asked.as_ref().map(|(name, _)| name);
    asked.or(state.upstream.as_ref()).or(state.route_upstream.as_ref())
}

fn of_request(stream: &Stream, state: &State, path: &[&str]) -> Option<Attribute> {
    let head = &state.request;
    let map = Map::request(state, &stream.request.flaws);
    let field = |name: &str| map.value(name.as_bytes()).map(|value| Attribute::Text(value.to_vec()));
    let target = head.current_target();
    let received = || {
        let said =
            head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        said.or(stream.summary.as_ref().map(|summary| summary.bytes_in)).unwrap_or_default()
    };
    match path {
        ["path"] => text(target.as_str()),
        ["url_path"] => text(target.path()),
        ["query"] => text(target.query().unwrap_or_default()),
        ["host"] => field(":authority"),
        ["scheme"] => field(":scheme"),
        ["method"] => text(head.method.as_str()),
        ["referer"] => field("referer"),
        ["useragent"] => field("user-agent"),
        ["id"] => field("x-request-id"),
        ["protocol"] => text(protocol(head.version)),
        ["headers"] => Some(joined_pairs(&map)),
        ["headers", name] => joined(&map, name),
        ["time"] => Some(Attribute::Time(nanos_of_day_one(state))),
        ["duration"] => Some(Attribute::Duration(stream.summary.as_ref()?.duration.as_nanos() as i64)),
        ["size"] => number(received()),
        ["headers_bytes"] => number(bytes_of(&map)),
        ["total_size"] => number(received() + bytes_of(&map)),
        _ => None,
    }
}

fn of_response(stream: &Stream, state: &State, path: &[&str]) -> Option<Attribute> {
    let reached = stream.response_reached || stream.summary.is_some();
    let Some((head, map)) =
        state.response.as_ref().filter(|_| reached).zip(Map::response(state, &stream.response.flaws))
    else {
        return match path {
            ["flags" | "size" | "headers_bytes" | "total_size"] => number(0),
            ["headers" | "trailers"] => Some(NONE),
            _ => None,
        };
    };
    let trailers = state.response_trailers.as_deref();
    let sent = stream.summary.as_ref().map_or(0, |summary| summary.bytes_out);
    match path {
        ["code"] => number(head.status.as_u16().into()),
        ["code_details"] => text(head.local.as_deref().unwrap_or("via_upstream")),
        ["flags"] => number(flag(head.local.as_deref().unwrap_or_default())),
        ["grpc_status"] => {
            let status = trailers.and_then(grpc_status).or_else(|| grpc_status(&head.headers));
            number(status.unwrap_or_else(|| grpc::of_http(head.status).into()))
        }
        ["headers"] => Some(joined_pairs(&map)),
        ["headers", name] => joined(&map, name),
        ["trailers"] => Some(trailers.map_or(NONE, |map| joined_pairs(&Map::Plain(map)))),
        ["trailers", name] => joined(&Map::Plain(trailers?), name),
        ["size"] => number(sent),
        ["headers_bytes"] => number(bytes_of(&map)),
        ["total_size"] => number(sent + bytes_of(&map)),
        _ => None,
    }
}

/// The bit of Envoy's response flags by which it knows why there is no answer of the upstream's.
fn flag(word: &str) -> u64 {
    match word {
        "no_healthy_upstream" => 0x2,
        "upstream_timeout" => 0x4,
        "upstream_connect_failed" => 0x20,
        "upstream_reset" => 0x40,
        "route_not_found" => 0x100,
        "upstream_protocol_error" => 0x80_0000,
        _ => 0,
    }
}

fn of_connection(state: &State, key: &str) -> Option<Attribute> {
    let tls = state.connection.tls.as_ref();
    match key {
        "id" => Some(Attribute::Uint(state.connection.id)),
        "mtls" => Some(Attribute::Bool(tls.is_some_and(|tls| tls.client_certificate.is_some()))),
        "requested_server_name" => text(tls.and_then(|tls| tls.sni.as_deref()).unwrap_or_default()),
        "tls_version" => tls.and_then(|Tls { version, .. }| text(version)),
        _ => None,
    }
}

fn of_address(address: SocketAddr, key: &str) -> Option<Attribute> {
    match key {
        "address" => text(&address.to_string()),
        "port" => number(address.port().into()),
        _ => None,
    }
}

fn of_upstream(state: &State, key: &str) -> Option<Attribute> {
    let endpoint = state.asked.as_ref().map(|(_, endpoint)| endpoint);
    match key {
        "request_attempt_count" => number(state.attempts.into()),
        "address" => text(endpoint?),
        "port" => number(endpoint?.rsplit_once(':')?.1.parse().ok()?),
        "locality" => endpoint.map(|_| NONE),
        "transport_failure_reason" => endpoint.and_then(|_| text("")),
        _ => None,
    }
}

/// A message that says nothing.
const NONE: Attribute = Attribute::Map(Vec::new());

fn text(text: &str) -> Option<Attribute> {
    Some(Attribute::text(text))
}

fn number(number: u64) -> Option<Attribute> {
    Some(Attribute::number(number))
}

/// All values of a name.
fn joined(map: &Map<'_>, name: &str) -> Option<Attribute> {
    let name = name.to_ascii_lowercase();
    let entries = map.entries();
    let values = values(&entries, name.as_bytes());
    (!values.is_empty()).then(|| Attribute::Text(values.join(&b","[..])))
}

/// Each name once, with all its values.
fn joined_pairs(map: &Map<'_>) -> Attribute {
    let entries = map.entries();
    let is_first = |place: usize| !entries[..place].iter().any(|(name, _)| *name == entries[place].0);
    let firsts = (0..entries.len()).filter(|place| is_first(*place)).map(|place| entries[place].0);
    let value = |name: &[u8]| Attribute::Text(values(&entries, name).join(&b","[..]));
    Attribute::Map(firsts.map(|name| (name.to_vec(), value(name))).collect())
}

fn values<'a>(entries: &[(&[u8], &'a [u8])], name: &[u8]) -> Vec<&'a [u8]> {
    entries.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value).collect()
}

fn bytes_of(map: &Map<'_>) -> u64 {
    map.entries().iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

/// When the request came, since 1970.
fn nanos_of_day_one(state: &State) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(state.begun.elapsed()).as_nanos() as i64
}

fn grpc_status(map: &HeaderMap) -> Option<u64> {
    map.get(grpc::STATUS)?.to_str().ok()?.parse().ok()
}
