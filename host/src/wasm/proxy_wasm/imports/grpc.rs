//! gRPC calls to upstreams: unary ones and streams, by HTTP/2 with prior knowledge. Messages cross the border
//! without their five bytes of length.

use std::{
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::{Notify, mpsc};

use super::{
    functions,
    http::{fields, no_answer, status, upstream_named},
};
use crate::{
    body::{Body, BodyError},
    grpc::{self, UNAVAILABLE},
    plugin::services::{CallError, Protocol, Upstream},
    wasm::proxy_wasm::{
        abi::{Answer, Fault, Status},
        call::Call,
        context::{Id, Pairs, VmData},
        pairs, proto,
        vm::Vm,
    },
};

functions! {
    proxy_grpc_call(
        upstream: u32, upstream_size: u32, service: u32, service_size: u32, method: u32, method_size: u32,
        metadata: u32, metadata_size: u32, message: u32, message_size: u32, timeout: u32, token_out: u32
    ) => grpc_call;
    proxy_grpc_stream(
        upstream: u32, upstream_size: u32, service: u32, service_size: u32, method: u32, method_size: u32,
        metadata: u32, metadata_size: u32, token_out: u32
    ) => grpc_stream;
    proxy_grpc_send(token: u32, message: u32, size: u32, end: u32) => send;
    proxy_grpc_cancel(token: u32) => cancel;
    proxy_grpc_close(token: u32) => close;
}

/// What Envoy says in place of a message, or adds to one, of an end that the upstream has sent.
const VIA_UPSTREAM: &str = "via_upstream";

/// The low bits of tokens.
const CALL: u32 = 1;
const STREAM: u32 = 2;

const OK: u32 = 0;
const UNKNOWN: u32 = 2;
const INTERNAL: u32 = 13;

/// A gRPC call or stream that is under way.
pub struct Conversation {
    root: Id,
    /// Until the guest has sent its last message.
    messages: Option<mpsc::UnboundedSender<Bytes>>,
    cancelled: Rc<Notify>,
}

/// What comes of a conversation.
pub enum Event {
    Initial(Pairs),
    Message(Bytes),
    Trailing(Pairs),
    /// The status, and its message; nothing comes after it.
    Close(u32, Bytes),
}

impl VmData {
    /// The root that an event is for; none where nobody waits for it any more. The last event of a call is told when
    /// there is nothing left to cancel; in that of a stream the guest may still close it.
    pub fn grpc_root(&mut self, token: u32, event: &Event) -> Option<Id> {
        let root = self.conversations.get(&token)?.root;
        if token & 3 == CALL && event.is_last(token) {
            self.conversations.remove(&token);
        }
        Some(root)
    }
}

impl Event {
    pub fn is_last(&self, token: u32) -> bool {
        match self {
            Event::Close(..) => true,
            Event::Message(_) => token & 3 == CALL,
            Event::Initial(_) | Event::Trailing(_) => false,
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the ABI has them")]
fn grpc_call(
    call: &mut Call<'_>,
    upstream: u32,
    upstream_size: u32,
    service: u32,
    service_size: u32,
    method: u32,
    method_size: u32,
    metadata: u32,
    metadata_size: u32,
    message: u32,
    message_size: u32,
    timeout: u32,
    token_out: u32,
) -> Answer {
    let message = call.copy(message, message_size)?;
    let place = (upstream, upstream_size);
    let path = (service, service_size, method, method_size);
    let (upstream, mut request) = begin(call, place, path, (metadata, metadata_size), token_out)?;
    *request.body_mut() = Body::Full(grpc::frame(&message));
    let timeout = (timeout > 0).then(|| Duration::from_millis(timeout.into()));
    if let Some(timeout) = timeout {
        request.headers_mut().insert("grpc-timeout", grpc_timeout(timeout));
    }
    converse(call, upstream, request, timeout, CALL, None, token_out)
}

#[expect(clippy::too_many_arguments, reason = "the ABI has them")]
fn grpc_stream(
    call: &mut Call<'_>,
    upstream: u32,
    upstream_size: u32,
    service: u32,
    service_size: u32,
    method: u32,
    method_size: u32,
    metadata: u32,
    metadata_size: u32,
    token_out: u32,
) -> Answer {
    let place = (upstream, upstream_size);
    let path = (service, service_size, method, method_size);
    let (upstream, mut request) = begin(call, place, path, (metadata, metadata_size), token_out)?;
    let (sender, receiver) = mpsc::unbounded_channel();
    *request.body_mut() = Body::boxed(Messages(receiver));
    converse(call, upstream, request, None, STREAM, Some(sender), token_out)
}

type Place = (u32, u32);

/// The request without its messages.
fn begin(
    call: &mut Call<'_>,
    upstream: Place,
    (service, service_size, method, method_size): (u32, u32, u32, u32),
    metadata: Place,
    token_out: u32,
) -> Answer<(Rc<dyn Upstream>, Request<Body>)> {
    let upstream = call.copy(upstream.0, upstream.1)?;
    let (service, method) = (call.text(service, service_size)?, call.text(method, method_size)?);
    let metadata = call.copy(metadata.0, metadata.1)?;
    call.write_u32(token_out, 0)?;
    // A cluster's name, or the message GrpcService, which has it.
    let data = call.data();
    let named = std::str::from_utf8(&upstream)
        .ok()
        .and_then(|name| Some((name.to_owned(), upstream_named(data, name)?)));
    let named = named.or_else(|| {
        let name = proto::cluster_of_grpc_service(&upstream)?;
        let upstream = upstream_named(data, &name)?;
        Some((name, upstream))
    });
    let (name, upstream) = named.ok_or(Status::ParseFailure)?;
    let uri = http::Uri::builder().scheme("http").authority(&*authority(&name));
    let uri = uri.path_and_query(format!("/{service}/{method}")).build();
    let mut request = Request::new(Body::Empty);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.map_err(|_| Status::BadArgument)?;
    *request.version_mut() = http::Version::HTTP_2;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    for (name, value) in pairs::decode(&metadata) {
        let name = HeaderName::from_bytes(name).map_err(|_| Status::InternalFailure)?;
        let value = match name.as_str().ends_with("-bin") {
            true => HeaderValue::try_from(STANDARD.encode(value)).ok(),
            false => HeaderValue::from_bytes(value).ok(),
        };
        headers.append(name, value.ok_or(Status::InternalFailure)?);
    }
    Ok((upstream, request))
}

/// A cluster's name as an authority, as Envoy's own client has it.
fn authority(name: &str) -> String {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    name.replace(|c: char| !part(c), "_")
}

fn converse(
    call: &mut Call<'_>,
    upstream: Rc<dyn Upstream>,
    request: Request<Body>,
    timeout: Option<Duration>,
    kind: u32,
    messages: Option<mpsc::UnboundedSender<Bytes>>,
    token_out: u32,
) -> Answer {
    let data = call.data();
    let (vm, root, token) = (data.vm.clone(), data.root_id()?, data.new_token(kind)?);
    let limit = data.plugin().limits.host_bytes;
    let cancelled = Rc::<Notify>::default();
    data.conversations.insert(token, Conversation { root, messages, cancelled: cancelled.clone() });
    let talk = Talk { vm, token, limit };
    data.root()?.services.tasks.spawn(async move {
        tokio::select! {
            () = talk.run(upstream, request, timeout) => {}
            () = cancelled.notified() => {}
        }
    });
    call.write_u32(token_out, token)
}

fn conversation<'a>(call: &'a mut Call<'_>, token: u32) -> Answer<&'a mut Conversation> {
    if !matches!(token & 3, CALL | STREAM) {
        return Err(Status::BadArgument.into());
    }
    call.data().conversations.get_mut(&token).ok_or(Fault::Status(Status::NotFound))
}

fn send(call: &mut Call<'_>, token: u32, message: u32, size: u32, end: u32) -> Answer {
    if token & 3 != STREAM {
        return Err(Status::BadArgument.into());
    }
    let message = call.copy(message, size)?;
    let known = conversation(call, token)?;
    if let Some(messages) = &known.messages {
        // Nobody listens where the stream has just ended: the guest will be told.
        let _ = messages.send(grpc::frame(&message));
    }
    if end != 0 {
        known.messages = None;
    }
    Ok(())
}

/// Nothing comes of it any more.
fn cancel(call: &mut Call<'_>, token: u32) -> Answer {
    conversation(call, token)?.cancelled.notify_one();
    call.data().conversations.remove(&token);
    Ok(())
}

/// Of a stream: the guest has sent its last message. Of a call: it is cancelled.
fn close(call: &mut Call<'_>, token: u32) -> Answer {
    match token & 3 {
        CALL => cancel(call, token),
        _ => {
            conversation(call, token)?.messages = None;
            Ok(())
        }
    }
}

/// The messages of a stream, as the guest sends them.
struct Messages(mpsc::UnboundedReceiver<Bytes>);

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// At most eight digits and a unit.
fn grpc_timeout(timeout: Duration) -> HeaderValue {
    let text = match timeout.as_millis() {
        millis @ ..100_000_000 => format!("{millis}m"),
        _ => format!("{}S", timeout.as_secs()),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("1H"))
}

/// One conversation, on behalf of its VM.
struct Talk {
    vm: Weak<Vm>,
    token: u32,
    limit: usize,
}

impl Talk {
    async fn run(&self, upstream: Rc<dyn Upstream>, request: Request<Body>, timeout: Option<Duration>) {
        let talk = self.talk(upstream, request);
        let end = match timeout {
            None => talk.await,
            Some(timeout) => tokio::time::timeout(timeout, talk).await.unwrap_or_else(|_| {
                // Not DEADLINE_EXCEEDED, as in Envoy.
                Some((UNAVAILABLE, "upstream request timeout{response_timeout}".into()))
            }),
        };
        if let Some((code, message)) = end {
            self.tell(Event::Close(code, message));
        }
    }

    fn is_stream(&self) -> bool {
        self.token & 3 == STREAM
    }

    fn tell(&self, event: Event) {
        if let Some(vm) = self.vm.upgrade() {
            vm.grpc_event(self.token, event);
        }
    }

    /// Until its end, with status and message; none where a call was answered, which is its end.
    async fn talk(&self, upstream: Rc<dyn Upstream>, request: Request<Body>) -> Option<(u32, Bytes)> {
        let response = match upstream.send(request, Protocol::Http2).await {
            Ok(response) => response,
            Err(error) => return Some(self.unanswered(&error)),
        };
        let (head, body) = Response::into_parts(response);
        let mut metadata = status(head.status.as_str());
        metadata.extend(fields(&head.headers));
        if head.status != StatusCode::OK {
            self.tell_end(Pairs::new());
            return Some((grpc::of_http(head.status), VIA_UPSTREAM.into()));
        }
        // An answer without messages may have its trailers in the head.
        if let Some((code, message)) = ended(&head.headers) {
            self.tell_end(metadata);
            return Some(self.end(code, message));
        }
        if self.is_stream() {
            self.tell(Event::Initial(metadata));
        }
        self.receive(body).await
    }

    /// What a stream is told of an end that comes without an answer.
    fn tell_end(&self, trailing: Pairs) {
        if self.is_stream() {
            self.tell(Event::Initial(Pairs::new()));
            self.tell(Event::Trailing(trailing));
        }
    }

    /// A call that came to a good end without a message has failed all the same.
    fn end(&self, code: u32, message: Bytes) -> (u32, Bytes) {
        match code == OK && !self.is_stream() {
            true => (INTERNAL, Bytes::new()),
            false => (code, message),
        }
    }

    /// In Envoy's words.
    fn unanswered(&self, error: &CallError) -> (u32, Bytes) {
        tracing::debug!("a plugin's gRPC call: {error}");
        let reason = match error {
            CallError::Connect(_) => "remote connection failure",
            CallError::Reset(_) => "remote reset",
            CallError::Protocol(_) => "protocol error",
        };
        let message = no_answer(reason);
        let mut trailing = status("200");
        let field =
            |name: &'static str, value: &str| (Bytes::from(name), Bytes::copy_from_slice(value.as_bytes()));
        trailing.extend([
            field("content-type", "application/grpc"),
            field("grpc-status", &UNAVAILABLE.to_string()),
            field("grpc-message", &message),
        ]);
        self.tell_end(trailing);
        let details = format!("{{upstream_reset_before_response_started{{{}}}}}", reason.replace(' ', "_"));
        (UNAVAILABLE, (message + &details).into())
    }

    async fn receive(&self, mut body: Body) -> Option<(u32, Bytes)> {
        let mut bytes = BytesMut::new();
        let mut answer = None;
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(frame) = frame else { return Some((UNAVAILABLE, "the stream was reset".into())) };
            match frame.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let (code, message) = ended(&trailers).unwrap_or((UNKNOWN, Bytes::new()));
                    if self.is_stream() {
                        self.tell(Event::Trailing(fields(&trailers)));
                    } else if let Some(answer) = answer.filter(|_| code == OK) {
                        self.tell(Event::Message(answer));
                        return None;
                    }
                    return Some(self.end(code, message));
                }
            }
            while let Some(message) = match message(&mut bytes, self.limit) {
                Ok(message) => message,
                Err(why) => return Some((INTERNAL, Bytes::from_static(why))),
            } {
                match self.is_stream() {
                    true => self.tell(Event::Message(message)),
                    false => answer = Some(message),
                }
            }
        }
        Some((UNKNOWN, Bytes::new()))
    }
}

/// The next whole message.
fn message(bytes: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, &'static [u8]> {
    let Some(&[flag, a, b, c, d]) = bytes.first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if flag != 0 {
        return Err(b"a compressed message");
    }
    if length > limit {
        return Err(b"the message is too long");
    }
    if bytes.len() < 5 + length {
        return Ok(None);
    }
    bytes.advance(5);
    Ok(Some(bytes.split_to(length).freeze()))
}

/// Status and message of trailers, if that is what they are. The message is told as it came, and where from.
fn ended(map: &HeaderMap) -> Option<(u32, Bytes)> {
    let code = map.get("grpc-status")?.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN);
    let message = match map.get("grpc-message").map(HeaderValue::as_bytes).unwrap_or_default() {
        b"" => VIA_UPSTREAM.into(),
        message => [message, b"{", VIA_UPSTREAM.as_bytes(), b"}"].concat().into(),
    };
    Some((code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole() {
        let mut bytes = BytesMut::from(
            &[&grpc::frame(b"one")[..], &grpc::frame(b"")[..], &grpc::frame(b"two")[..6]].concat()[..],
        );
        assert_eq!(message(&mut bytes, 9), Ok(Some("one".into())));
        assert_eq!(message(&mut bytes, 9), Ok(Some("".into())));
        assert_eq!(message(&mut bytes, 9), Ok(None));
        bytes.extend_from_slice(b"wo");
        assert_eq!(message(&mut bytes, 9), Ok(Some("two".into())));
        assert!(message(&mut BytesMut::from(&grpc::frame(b"long")[..]), 3).is_err());
        assert!(message(&mut BytesMut::from(&b"\x01\0\0\0\0"[..]), 3).is_err());
    }

    #[test]
    fn the_end_is_read_from_trailers() {
        let mut map = HeaderMap::new();
        assert_eq!(ended(&map), None);
        map.insert("grpc-status", 5.into());
        assert_eq!(ended(&map), Some((5, "via_upstream".into())));
        map.insert("grpc-message", HeaderValue::from_static("not%20found"));
        assert_eq!(ended(&map), Some((5, "not%20found{via_upstream}".into())));
    }
}
