//! What is known of a stream beside its messages, by path: Envoy's attributes, also under the names that they
//! had until version 1.33. Numbers cross the border as eight bytes, times and durations as nanoseconds.
//!
//! What filters set is a variable of the request, `wasm.` before its name: native plugins read it under that
//! name, and filters read the variables of native plugins as `filter_state`.

use std::{net::SocketAddr, time::SystemTime};

use http::{HeaderMap, Version, header};

use super::{
    functions,
    maps::{Map, request},
};
use crate::{
    plugin::exchange::{State, Tls},
    wasm::proxy_wasm::{
        abi::{Answer, Fault, Status},
        call::Call,
        context::{Root, Stream, VmData},
        pairs,
    },
};

functions! {
    proxy_get_property(path: u32, path_size: u32, at_out: u32, size_out: u32) => get;
    proxy_set_property(path: u32, path_size: u32, value: u32, size: u32) => set;
}

fn get(call: &mut Call<'_>, path: u32, path_size: u32, at_out: u32, size_out: u32) -> Answer {
    let path = call.text(path, path_size)?;
    let parts: Vec<&str> = path.split('\0').collect();
    let value = value(call.data(), &parts).ok_or(Status::NotFound)?;
    call.give(&value, at_out, size_out)
}

fn set(call: &mut Call<'_>, path: u32, path_size: u32, value: u32, size: u32) -> Answer {
    let path = call.text(path, path_size)?;
    let value = call.copy(value, size)?;
    let data = call.data();
    let name = format!("wasm.{path}");
    let is_fixed = data.read_only.contains(&path);
    let state = data.state().ok_or(Status::NotFound)?;
    if is_fixed && state.var(&name).is_some() {
        return Err(Status::BadArgument.into());
    }
    state.set_var(name, value).map_err(|_| Fault::Status(Status::InternalFailure))
}

/// None where there is no such thing, or not yet.
fn value(data: &mut VmData, path: &[&str]) -> Option<Vec<u8>> {
    let (first, rest) = path.split_first()?;
    if let Some(value) = data.root().ok().and_then(|root| of_root(root, path)) {
        return Some(value);
    }
    match (*first, rest) {
        ("plugin_vm_id", []) => return text(&data.guest.vm_id),
        ("xds", rest) => return of_config(data.state()?, rest),
        ("node" | "cluster_name" | "route_name" | "listener_direction", _) => {
            return of_config(data.state()?, path);
        }
        ("cluster_metadata" | "route_metadata" | "listener_metadata" | "upstream_host_metadata", _) => {
            return of_config(data.state()?, path);
        }
        _ => {}
    }
    let stream = data.stream()?;
    let state = stream.state.as_deref()?;
    match (*first, rest) {
        ("request", rest) => of_request(stream, state, rest),
        ("response", rest) => of_response(stream, state, rest),
        ("connection", [key]) => of_connection(state, key),
        ("connection_id", []) => number(state.connection.id),
        ("source", [key]) => of_address(state.connection.peer, key),
        ("destination", [key]) => of_address(state.connection.local, key),
        ("upstream", [key]) => of_upstream(state, key),
        ("metadata", []) => Some(Vec::new()),
        ("filter_state", [key]) => state.var(key).map(<[u8]>::to_vec),
        (name, _) => state.var(&format!("wasm.{name}")).map(<[u8]>::to_vec),
    }
}

fn of_root(root: &Root, path: &[&str]) -> Option<Vec<u8>> {
    match path {
        ["plugin_name"] => text(&root.plugin.name),
        ["plugin_root_id"] => text(&root.settings.root_id),
        _ => None,
    }
}

/// What Envoy knows of its own configuration. Nodes have no names here, and nothing has metadata.
fn of_config(state: &State, path: &[&str]) -> Option<Vec<u8>> {
    match path {
        ["node", "id" | "cluster"] => text(""),
        ["node"] => Some(Vec::new()),
        ["cluster_name"] => {
            text(state.asked.as_ref().map(|(name, _)| name).or(state.route_upstream.as_ref())?)
        }
        ["route_name"] => text(&state.route),
        ["virtual_host_name" | "filter_chain_name"] => text(""),
        ["listener_direction"] => number(0),
        [
            "cluster_metadata"
            | "route_metadata"
            | "listener_metadata"
            | "virtual_host_metadata"
            | "upstream_host_metadata"
            | "upstream_host_locality_metadata",
        ] => Some(Vec::new()),
        _ => None,
    }
}

fn of_request(stream: &Stream, state: &State, path: &[&str]) -> Option<Vec<u8>> {
    let head = &state.request;
    let map = request(state);
    let field = |name: &str| map.value(name.as_bytes()).map(<[u8]>::to_vec);
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
        ["scheme"] => text(state.scheme()),
        ["method"] => text(head.method.as_str()),
        ["referer"] => field("referer"),
        ["useragent"] => field("user-agent"),
        ["id"] => field("x-request-id"),
        ["protocol"] => text(protocol(head.version)),
        ["headers"] => Some(pairs::encode(map.entries().into_iter())),
        ["headers", name] => joined(&map, name),
        ["time"] => number(nanos_of_day_one(state)),
        ["duration"] => number(stream.summary.as_ref()?.duration.as_nanos() as u64),
        ["size"] => number(received()),
        ["headers_bytes"] => number(bytes_of(&map)),
        ["total_size"] => number(received() + bytes_of(&map)),
        _ => None,
    }
}

fn of_response(stream: &Stream, state: &State, path: &[&str]) -> Option<Vec<u8>> {
    let head = state.response.as_ref().filter(|_| stream.response_reached || stream.summary.is_some())?;
    let map = Map::Response(head);
    let sent = stream.summary.as_ref().map(|summary| summary.bytes_out);
    match path {
        ["code"] => number(head.status.as_u16().into()),
        ["code_details"] if head.from_upstream => text("via_upstream"),
        ["code_details"] => text(stream.summary.as_ref()?.code.as_deref()?),
        ["flags"] => number(0),
        ["grpc_status"] => {
            let status = state.response_trailers.as_deref().and_then(grpc_status);
            number(status.or_else(|| grpc_status(&head.headers))?)
        }
        ["headers"] => Some(pairs::encode(map.entries().into_iter())),
        ["headers", name] => joined(&map, name),
        ["trailers"] => {
            Some(pairs::encode(Map::Plain(state.response_trailers.as_deref()?).entries().into_iter()))
        }
        ["trailers", name] => joined(&Map::Plain(state.response_trailers.as_deref()?), name),
        ["size"] => number(sent?),
        ["headers_bytes"] => number(bytes_of(&map)),
        ["total_size"] => number(sent? + bytes_of(&map)),
        _ => None,
    }
}

fn of_connection(state: &State, key: &str) -> Option<Vec<u8>> {
    let tls = state.connection.tls.as_ref();
    match key {
        "id" => number(state.connection.id),
        "mtls" => Some(vec![u8::from(tls.is_some_and(|tls| tls.client_certificate.is_some()))]),
        "requested_server_name" => text(tls.and_then(|tls| tls.sni.as_deref()).unwrap_or_default()),
        "tls_version" => tls.and_then(|Tls { version, .. }| text(version)),
        _ => None,
    }
}

fn of_address(address: SocketAddr, key: &str) -> Option<Vec<u8>> {
    match key {
        "address" => text(&address.to_string()),
        "port" => number(address.port().into()),
        _ => None,
    }
}

fn of_upstream(state: &State, key: &str) -> Option<Vec<u8>> {
    let (_, endpoint) = state.asked.as_ref()?;
    match key {
        "address" => text(endpoint),
        "port" => number(endpoint.rsplit_once(':')?.1.parse().ok()?),
        "request_attempt_count" => number(1),
        _ => None,
    }
}

fn text(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

fn number(number: u64) -> Option<Vec<u8>> {
    Some(number.to_le_bytes().to_vec())
}

/// All values of a name.
fn joined(map: &Map<'_>, name: &str) -> Option<Vec<u8>> {
    let name = name.to_ascii_lowercase();
    let entries = map.entries();
    let values: Vec<_> =
        entries.iter().filter(|(known, _)| *known == name.as_bytes()).map(|(_, value)| *value).collect();
    (!values.is_empty()).then(|| values.join(&b","[..]))
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
fn nanos_of_day_one(state: &State) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(state.begun.elapsed()).as_nanos() as u64
}

fn grpc_status(map: &HeaderMap) -> Option<u64> {
    map.get("grpc-status")?.to_str().ok()?.parse().ok()
}
