//! A gRPC service whose methods each behave in one way, for callers that are to be tested.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::{HeaderMap, Request, Response, body::Incoming, service::service_fn};

use crate::http2;

/// Serves until the test process ends:
///
/// | method | what it does |
/// |---|---|
/// | `Fail` | status 7 with a message, at once |
/// | `FailLater` | one message, then status 13 |
/// | `Nothing` | status 0 without a message |
/// | `Metadata` | one message, which tells the metadata that it got |
/// | `Many` | three messages, then the end, whatever comes |
/// | `Http` | 503, which is no gRPC |
/// | `Reset` | begins an answer and resets the stream |
/// | `Never` | never answers |
/// | `RandomError` | the status that the message names |
/// | any other | sends back what comes, and in `x-seen` the metadata that it got |
pub struct GrpcService {
    address: SocketAddr,
}

/// The health service (grpc.health.v1), which knows a service `app`.
pub struct GrpcHealth {
    address: SocketAddr,
    status: Arc<AtomicU8>,
}

impl GrpcHealth {
    pub fn start() -> GrpcHealth {
        let status = Arc::new(AtomicU8::new(1));
        let shared = status.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let status = shared.load(Ordering::SeqCst);
            async move {
                let known = request.uri().path() == "/grpc.health.v1.Health/Check";
                let asked =
                    request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let response = Response::builder().header("content-type", "application/grpc");
                // The message is one field, of a string: its tag, its length, its bytes.
                if !known || asked.get(5..) != Some(b"\x0a\x03app") {
                    let none = response.header("grpc-status", "5").body(Reply::default());
                    return Ok::<_, Infallible>(none.expect("a response"));
                }
                let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
                let reply =
                    Reply { ready: [message].into(), trailers: Some(end("0", "")), ..Reply::default() };
                Ok(response.body(reply).expect("a response"))
            }
        });
        GrpcHealth { address: http2::serve(service), status }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it says from now on: 1 is SERVING, 2 NOT_SERVING.
    pub fn set(&self, status: u8) {
        self.status.store(status, Ordering::SeqCst);
    }
}

/// An answer's body: what is ready, then what comes from the caller, then trailers.
#[derive(Default)]
struct Reply {
    ready: VecDeque<Bytes>,
    echo: Option<Incoming>,
    trailers: Option<HeaderMap>,
    breaks: bool,
}

impl GrpcService {
    pub fn start() -> GrpcService {
        GrpcService { address: http2::serve(service_fn(serve)) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let seen = seen(request.headers());
    let mut response = Response::builder().header("content-type", "application/grpc");
    let reply = match method.as_str() {
        "Fail" => {
            response = response.header("grpc-status", "7").header("grpc-message", "not%20you");
            Reply::default()
        }
        "FailLater" => Reply { ready: messages(1), trailers: Some(end("13", "broken")), ..Reply::default() },
        "Nothing" => {
            response = response.header("grpc-status", "0");
            Reply::default()
        }
        "Metadata" => {
            let message = [&[0, 0, 0, 0, seen.len() as u8], seen.as_bytes()].concat();
            Reply { ready: [message.into()].into(), trailers: Some(end("0", "")), ..Reply::default() }
        }
        "Many" => Reply { ready: messages(3), trailers: Some(end("0", "")), ..Reply::default() },
        "Http" => {
            response = Response::builder().status(503).header("content-type", "text/plain");
            Reply { ready: [Bytes::from("no gRPC here")].into(), ..Reply::default() }
        }
        "Reset" => Reply { ready: messages(1), breaks: true, ..Reply::default() },
        "Never" => std::future::pending().await,
        "RandomError" => {
            let message = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            response = response.header("grpc-status", message.get(5..).unwrap_or_default());
            Reply::default()
        }
        _ => {
            response = response.header("x-begin", "1").header("x-seen", seen);
            let echo = Some(request.into_body());
            Reply { echo, trailers: Some(end("0", "")), ..Reply::default() }
        }
    };
    Ok(response.body(reply).expect("a response"))
}

/// Metadata of the caller's own, in its order.
fn seen(headers: &HeaderMap) -> String {
    let own = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-") && !name.as_str().starts_with("x-envoy"));
    own.map(|(name, value)| format!("{name}={}", value.as_bytes().escape_ascii()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn messages(count: u8) -> VecDeque<Bytes> {
    (1..=count).map(|number| Bytes::from(vec![0, 0, 0, 0, 1, b'0' + number])).collect()
}

fn end(status: &'static str, message: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", hyper::header::HeaderValue::from_static(status));
    if !message.is_empty() {
        trailers.insert("grpc-message", hyper::header::HeaderValue::from_static(message));
    }
    trailers.insert("x-end", hyper::header::HeaderValue::from_static("1"));
    trailers
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(bytes) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if self.breaks {
            return Poll::Ready(Some(Err(io::Error::other("broken off on purpose"))));
        }
        if let Some(echo) = &mut self.echo {
            match Pin::new(echo).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(Ok(frame))),
                Poll::Ready(_) => self.echo = None,
            }
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    /// Then the head is all of the answer, as gRPC wants it where there is nothing but a status.
    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.echo.is_none() && self.trailers.is_none() && !self.breaks
    }
}
