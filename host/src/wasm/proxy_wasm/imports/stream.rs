//! Going on, closing, and answering in place of the upstream.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::functions;
use crate::{
    grpc,
    plugin::{LocalResponse, exchange::final_status, interrupt::Ruling},
    wasm::proxy_wasm::{
        abi::{Answer, Status},
        call::Call,
        context::Stream,
        pairs,
    },
};

functions! {
    proxy_continue_stream(kind: u32) => continue_stream;
    proxy_close_stream(kind: u32) => close_stream;
    proxy_continue_request() => continue_request;
    proxy_continue_response() => continue_response;
    proxy_clear_route_cache() => clear_route_cache;
    proxy_send_local_response(
        status: u32, details_at: u32, details_size: u32, body_at: u32, body_size: u32,
        headers_at: u32, headers_size: u32, grpc_status: u32
    ) => send_local_response;
}

/// Going on where nothing is paused is no mistake.
fn continue_stream(call: &mut Call<'_>, kind: u32) -> Answer {
    match kind {
        0 => continue_request(call),
        1 => continue_response(call),
        // The downstream of a network filter.
        2 => Ok(()),
        3 => Err(Status::Unimplemented.into()),
        _ => Err(Status::BadArgument.into()),
    }
}

fn continue_request(call: &mut Call<'_>) -> Answer {
    if let Some(stream) = call.data().stream() {
        Stream::resume(&mut stream.request, &stream.wake);
    }
    Ok(())
}

fn continue_response(call: &mut Call<'_>) -> Answer {
    if let Some(stream) = call.data().stream() {
        Stream::resume(&mut stream.response, &stream.wake);
    }
    Ok(())
}

fn close_stream(call: &mut Call<'_>, kind: u32) -> Answer {
    if kind > 3 {
        return Err(Status::BadArgument.into());
    }
    if let Some(stream) = call.data().stream().filter(|_| kind < 2) {
        stream.rule(Ruling::Close);
    }
    Ok(())
}

/// The route is looked up again before the request is sent.
pub fn clear_route_cache(call: &mut Call<'_>) -> Answer {
    let reroute = call.data().root().is_ok_and(|root| root.settings.reroute);
    if let Some(stream) = call.data().stream().filter(|stream| stream.request.head_open) {
        stream.reroute |= reroute;
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI has them")]
fn send_local_response(
    call: &mut Call<'_>,
    status: u32,
    details_at: u32,
    details_size: u32,
    body_at: u32,
    body_size: u32,
    headers_at: u32,
    headers_size: u32,
    grpc_status: u32,
) -> Answer {
    let details =
        String::from_utf8_lossy(&call.copy(details_at, details_size)?).replace(char::is_whitespace, "_");
    let body = call.copy(body_at, body_size)?;
    let headers = call.copy(headers_at, headers_size)?;
    let Some(stream) = call.data().stream() else { return Ok(()) };
    let status = u16::try_from(status).ok().and_then(final_status);
    let Some((status, map)) = status.zip(header_map(&headers)) else {
        let detail = "A plugin gave no valid answer.";
        let local = LocalResponse::error(StatusCode::INTERNAL_SERVER_ERROR, "plugin_failed", detail);
        stream.respond(Box::new(local));
        return Ok(());
    };
    let mut local = LocalResponse {
        status,
        headers: map,
        body: Some(body.into()),
        code: LocalResponse::PLUGIN.into(),
        detail: (!details.is_empty()).then(|| details.into()),
    };
    if stream.state.as_ref().is_some_and(|state| state.grpc == Some(grpc::Kind::Grpc)) {
        for_grpc(&mut local, grpc_status);
    } else if !local.headers.contains_key(header::CONTENT_TYPE) && body_size > 0 {
        local.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    stream.respond(Box::new(local));
    Ok(())
}

/// Without the pseudo headers that the guest gave; none where there is anything that is no HTTP.
fn header_map(headers: &[u8]) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in pairs::decode(headers).into_iter().filter(|(name, _)| !name.starts_with(b":")) {
        map.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some(map)
}

/// A client of gRPC looks for the status in the head of an answer without a body.
fn for_grpc(local: &mut LocalResponse, grpc_status: u32) {
    let code = match grpc_status {
        0..=16 => grpc_status,
        // None was given.
        _ => grpc::of_http(local.status),
    };
    local.end_call(grpc::Kind::Grpc, code);
}
