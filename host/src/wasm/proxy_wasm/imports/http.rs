//! HTTP calls to upstreams. A call belongs to the root, so it outlives the stream that made it. As from Envoy, an
//! upstream that cannot be reached answers 503 and one that is too slow 504; only a connection that ends before the
//! answer is no answer at all.

use std::{pin::Pin, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header, uri::PathAndQuery};
use http_body::Body as _;

use super::functions;
use crate::{
    body::Body,
    plugin::services::{CallError, Protocol, Upstream},
    wasm::proxy_wasm::{
        abi::{Answer, Status},
        call::Call,
        context::{Pairs, VmData},
        pairs,
        vm::CallAnswer,
    },
};

functions! {
    proxy_http_call(
        upstream: u32, upstream_size: u32, headers: u32, headers_size: u32, body: u32, body_size: u32,
        trailers: u32, trailers_size: u32, timeout: u32, token_out: u32
    ) => http_call;
}

#[expect(clippy::too_many_arguments, reason = "the ABI has them")]
fn http_call(
    call: &mut Call<'_>,
    upstream: u32,
    upstream_size: u32,
    headers: u32,
    headers_size: u32,
    body: u32,
    body_size: u32,
    _trailers: u32,
    _trailers_size: u32,
    timeout: u32,
    token_out: u32,
) -> Answer {
    let name = call.text(upstream, upstream_size)?;
    let headers = call.copy(headers, headers_size)?;
    let body = Bytes::from(call.copy(body, body_size)?);
    // A place that cannot be written to ends the call before it begins.
    call.write_u32(token_out, 0)?;
    let data = call.data();
    let upstream = upstream_named(data, &name).ok_or(Status::BadArgument)?;
    let timeout = i32::try_from(timeout).map_err(|_| Status::BadArgument)?;
    let timeout = (timeout > 0).then(|| Duration::from_millis(timeout as u64));
    let request = request(&headers, body).ok_or(Status::BadArgument)?;
    let (vm, root, token) = (data.vm.clone(), data.root_id()?, data.new_token(0)?);
    let limit = data.plugin().limits.host_bytes;
    data.http_calls.insert(token, root);
    data.root()?.services.tasks.spawn(async move {
        let answer = answered(upstream, request, timeout, limit).await;
        if let Some(vm) = vm.upgrade() {
            vm.http_answered(token, answer);
        }
    });
    call.write_u32(token_out, token)
}

/// The upstream that the guest calls by this name, if it may.
pub fn upstream_named(data: &mut VmData, name: &str) -> Option<Rc<dyn Upstream>> {
    let root = data.root().ok()?;
    let mapped = root.settings.clusters.iter().find(|(cluster, _)| cluster == name);
    let name = mapped.map_or(name, |(_, upstream)| upstream);
    let granted = root.plugin.grants.upstreams.iter().any(|upstream| **upstream == *name);
    granted.then(|| root.services.upstreams.get(name)).flatten()
}

/// None where a pseudo header is missing or anything is malformed.
fn request(headers: &[u8], body: Bytes) -> Option<Request<Body>> {
    let (mut method, mut path, mut authority) = (None, None, None);
    let mut map = HeaderMap::new();
    for (name, value) in pairs::decode(headers) {
        match &name.to_ascii_lowercase()[..] {
            b":method" => method = Method::from_bytes(value).ok(),
            b":path" => path = PathAndQuery::try_from(value).ok(),
            b":authority" | b"host" => authority = HeaderValue::from_bytes(value).ok(),
            name if name.starts_with(b":") => {}
            name => {
                let name = HeaderName::from_bytes(name).ok()?;
                map.append(name, HeaderValue::from_bytes(value).ok()?);
            }
        }
    }
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE] {
        map.remove(name);
    }
    map.insert(header::HOST, authority?);
    let mut request = Request::new(if body.is_empty() { Body::Empty } else { Body::Full(body) });
    *request.method_mut() = method.filter(|method| *method != Method::CONNECT)?;
    *request.uri_mut() = path?.into();
    *request.headers_mut() = map;
    Some(request)
}

/// None where the connection ended before the answer.
async fn answered(
    upstream: Rc<dyn Upstream>,
    request: Request<Body>,
    timeout: Option<Duration>,
    limit: usize,
) -> Option<CallAnswer> {
    let answer = async {
        match upstream.send(request, Protocol::Configured).await {
            Ok(response) => whole(response, limit).await,
            Err(error) => {
                tracing::debug!("a plugin's call: {error}");
                let (status, reason) = match error {
                    CallError::Connect(_) => ("503", "remote connection failure"),
                    CallError::Reset(_) => ("503", "connection termination"),
                    CallError::Protocol(_) => ("502", "protocol error"),
                };
                Some(CallAnswer::local(status, no_answer(reason)))
            }
        }
    };
    let Some(timeout) = timeout else { return answer.await };
    let in_time = tokio::time::timeout(timeout, answer).await;
    in_time.unwrap_or_else(|_| Some(CallAnswer::local("504", "upstream request timeout".to_owned())))
}

async fn whole(response: Response<Body>, limit: usize) -> Option<CallAnswer> {
    let (head, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    let mut trailers = Pairs::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.ok()?.into_data() {
            Ok(data) if bytes.len() + data.len() > limit => return None,
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().map(|map| fields(&map)).unwrap_or_default(),
        }
    }
    let mut headers = status(head.status.as_str());
    headers.extend(fields(&head.headers));
    Some(CallAnswer { headers, body: bytes.freeze(), trailers })
}

pub fn fields(map: &HeaderMap) -> Pairs {
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    map.iter().map(|(name, value)| (bytes(name.as_str().as_bytes()), bytes(value.as_bytes()))).collect()
}

/// In Envoy's words.
pub fn no_answer(reason: &str) -> String {
    format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}")
}

pub fn status(status: &str) -> Pairs {
    vec![(Bytes::from_static(b":status"), Bytes::copy_from_slice(status.as_bytes()))]
}

impl CallAnswer {
    /// As Envoy answers in place of an upstream.
    fn local(code: &str, text: String) -> Self {
        let mut headers = status(code);
        let length = text.len().to_string();
        headers.push((Bytes::from_static(b"content-length"), length.into()));
        headers.push((Bytes::from_static(b"content-type"), Bytes::from_static(b"text/plain")));
        CallAnswer { headers, body: text.into(), trailers: Pairs::new() }
    }
}
