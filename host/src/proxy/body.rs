//! Bodies past the plugins that asked for them, and the two ends: what comes from the client and
//! from the upstream, what goes to the client.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{error::ProxyError, journey::Journey};
use crate::{
    body::{Body, BodyError, Patience, Prefixed},
    config::Timeouts,
    plugin::{
        BodyMode, BodyVerdict,
        chain::Tap,
        exchange::{Phase, ResponseHead},
    },
    upstream::connect::Connection,
};

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// The request's body: counted, held to the route's limit, not waited for without end.
pub fn from_client(journey: &Rc<Journey>, incoming: Incoming) -> Body {
    if incoming.is_end_stream() {
        return Body::Empty;
    }
    let limit = journey.route_spec().map_or(0, |route| route.body_limit);
    let patience = Patience::new(Some(journey.snapshot().limits.body_time), None);
    Body::boxed(ClientBody { incoming, left: limit, patience, journey: journey.clone() })
}

struct ClientBody {
    incoming: Incoming,
    left: u64,
    patience: Patience,
    journey: Rc<Journey>,
}

impl HttpBody for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        let polled = transport(Pin::new(&mut this.incoming).poll_frame(cx));
        let frame = ready!(this.patience.poll(polled, cx));
        if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()).and_then(Frame::data_ref) {
            let length = data.len() as u64;
            this.journey.bytes_in.update(|bytes| bytes + length);
            match this.left.checked_sub(length) {
                Some(left) => this.left = left,
                None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The response's body. Its connection is kept only if it comes to its end.
pub fn from_upstream(
    incoming: Incoming,
    connection: Connection,
    timeouts: &Timeouts,
    started: Instant,
) -> Body {
    if incoming.is_end_stream() {
        connection.release();
        return Body::Empty;
    }
    let deadline = timeouts.total.map(|total| started + total);
    let patience = Patience::new(Some(timeouts.read), deadline);
    Body::boxed(UpstreamBody { incoming, ended: false, patience, connection: Some(connection) })
}

struct UpstreamBody {
    incoming: Incoming,
    ended: bool,
    patience: Patience,
    connection: Option<Connection>,
}

impl HttpBody for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        let polled = transport(Pin::new(&mut this.incoming).poll_frame(cx));
        let frame = ready!(this.patience.poll(polled, cx));
        this.ended = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && (self.ended || self.incoming.is_end_stream())
        {
            connection.release();
        }
    }
}

fn transport(polled: Poll<Option<Result<Frame<Bytes>, hyper::Error>>>) -> Polled {
    polled.map(|frame| frame.map(|frame| frame.map_err(BodyError::Transport)))
}

/// Leads the request's body past the plugins, in the chain's order.
pub async fn tap_request(journey: &Rc<Journey>, taps: &[Tap], mut body: Body) -> Result<Body, ProxyError> {
    for tap in taps {
        let passed = pass(journey, Side::Request, *tap, body).await;
        body = match passed {
            Ok(body) => body,
            Err(Stopped::Respond(local)) => return Err(ProxyError::Local(local)),
            Err(Stopped::Broken(error)) => {
                return Err(journey.cut_short().unwrap_or(ProxyError::from_request_body(&error)));
            }
        };
    }
    Ok(body)
}

/// Leads the response's body past the plugins, in reverse order. What stops it on the way becomes
/// the response, which the plugins that are left see.
pub async fn tap_response(journey: &Rc<Journey>, taps: &[Tap], mut body: Body) -> Body {
    if !has_body(journey).await {
        return body;
    }
    for tap in taps {
        let passed = pass(journey, Side::Response, *tap, body).await;
        let error = match passed {
            Ok(passed) => {
                body = passed;
                continue;
            }
            Err(Stopped::Respond(local)) => ProxyError::Local(local),
            Err(Stopped::Broken(error)) => {
                journey.cut_short().unwrap_or(ProxyError::from_response_body(&error))
            }
        };
        let mut exchange = journey.exchange().await;
        body = journey.write_local(&mut exchange, *error.into_response());
    }
    body
}

async fn has_body(journey: &Journey) -> bool {
    let exchange = journey.exchange().await;
    let status = exchange.response.as_ref().map(|response| response.status);
    exchange.request.method != Method::HEAD
        && !matches!(status, Some(StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED))
}

/// Why a body did not pass a plugin.
enum Stopped {
    Respond(Box<crate::plugin::LocalResponse>),
    Broken(BodyError),
}

#[derive(Clone, Copy)]
enum Side {
    Request,
    Response,
}

/// One plugin, in the mode that it asked for.
async fn pass(journey: &Rc<Journey>, side: Side, tap: Tap, mut body: Body) -> Result<Body, Stopped> {
    let (bytes, end, rest) = match tap.mode {
        BodyMode::Stream => return Ok(Body::boxed(Tapped::new(journey, side, tap.plugin, body))),
        BodyMode::Buffer(limit) => {
            let bytes = body.collect(limit as usize).await.map_err(Stopped::Broken)?;
            (bytes, true, None)
        }
        BodyMode::Peek(limit) => {
            let (read, end) = body.read_up_to(limit as usize).await.map_err(Stopped::Broken)?;
            let mut first = read;
            let beyond = first.split_off(first.len().min(limit as usize));
            let end = end && beyond.is_empty();
            (first, end, Some(Prefixed { first: Some(beyond), rest: body }))
        }
    };
    let first = match ask(journey, side, tap.plugin, bytes.clone(), end, true).await {
        BodyVerdict::Pass => bytes,
        BodyVerdict::Replace(bytes) => bytes,
        BodyVerdict::Respond(local) => return Err(Stopped::Respond(local)),
    };
    Ok(match rest {
        Some(rest) if !end => Body::boxed(Prefixed { first: Some(first), rest: Body::boxed(rest) }),
        _ => Body::Full(first),
    })
}

/// `open`: the head of the message was not sent yet.
async fn ask(
    journey: &Journey,
    side: Side,
    plugin: usize,
    chunk: Bytes,
    end: bool,
    open: bool,
) -> BodyVerdict {
    let chain = journey.chain();
    let mut exchange = journey.exchange().await;
    match side {
        Side::Request => {
            exchange.phase = Phase::RequestBody { open };
            chain.request_body(plugin, &mut exchange, chunk, end).await
        }
        Side::Response => {
            exchange.phase = Phase::ResponseBody { open };
            chain.response_body(plugin, &mut exchange, chunk, end).await
        }
    }
}

type Asked = Pin<Box<dyn Future<Output = BodyVerdict>>>;

/// A body that passes a plugin piece by piece.
struct Tapped {
    journey: Rc<Journey>,
    side: Side,
    plugin: usize,
    inner: Body,
    /// The piece at the plugin.
    asked: Option<(Bytes, Asked)>,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl Tapped {
    fn new(journey: &Rc<Journey>, side: Side, plugin: usize, inner: Body) -> Self {
        let journey = journey.clone();
        Tapped { journey, side, plugin, inner, asked: None, trailers: None, ended: false }
    }

    fn ask(&mut self, chunk: Bytes, end: bool) {
        let (journey, side, plugin, piece) = (self.journey.clone(), self.side, self.plugin, chunk.clone());
        let call = async move { ask(&journey, side, plugin, piece, end, false).await };
        self.asked = Some((chunk, Box::pin(call)));
        self.ended = end;
    }

    /// The bytes to pass on for the piece at the plugin.
    fn settle(&mut self, chunk: Bytes, verdict: BodyVerdict) -> Result<Bytes, BodyError> {
        match verdict {
            BodyVerdict::Pass => Ok(chunk),
            BodyVerdict::Replace(bytes) => Ok(bytes),
            BodyVerdict::Respond(local) => {
                self.journey.cut(local);
                Err(BodyError::Cut)
            }
        }
    }
}

impl HttpBody for Tapped {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        loop {
            if let Some((chunk, call)) = &mut this.asked {
                let verdict = ready!(call.as_mut().poll(cx));
                let chunk = std::mem::take(chunk);
                this.asked = None;
                match this.settle(chunk, verdict) {
                    Ok(bytes) if bytes.is_empty() => {}
                    result => return Poll::Ready(Some(result.map(Frame::data))),
                }
            }
            if this.ended {
                return Poll::Ready(this.trailers.take().map(|map| Ok(Frame::trailers(map))));
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => this.ask(Bytes::new(), true),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.ask(data, false),
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok();
                        this.ask(Bytes::new(), true);
                    }
                },
            }
        }
    }
}

/// What the client gets. Counts it, and holds the journey until the last byte is gone.
pub struct Outgoing {
    body: Body,
    ended: bool,
    journey: Rc<Journey>,
}

impl Outgoing {
    pub fn response(
        journey: Rc<Journey>,
        head: ResponseHead,
        method: &Method,
        body: Body,
    ) -> Response<Outgoing> {
        let ResponseHead { status, mut headers, .. } = head;
        let body = frame(&mut headers, status, method, body);
        journey.sent(status);
        let mut response = Response::new(Outgoing { body, ended: false, journey });
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Content-Length as the body has it. An answer to HEAD says what GET would have got.
fn frame(headers: &mut HeaderMap, status: StatusCode, method: &Method, body: Body) -> Body {
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Body::Empty;
    }
    let length = body.size_hint().exact();
    if *method == Method::HEAD {
        if let Some(length) = length.filter(|&length| length > 0) {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        return Body::Empty;
    }
    match length {
        Some(length) if headers.get(header::CONTENT_LENGTH).is_some_and(|said| says(said, length)) => {}
        Some(length) => _ = headers.insert(header::CONTENT_LENGTH, length.into()),
        None => _ = headers.remove(header::CONTENT_LENGTH),
    }
    body
}

fn says(value: &HeaderValue, length: u64) -> bool {
    value.to_str().is_ok_and(|text| text.parse() == Ok(length))
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => self.ended = true,
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.journey.bytes_out.update(|bytes| bytes + length);
            }
            Some(Err(error)) => {
                self.ended = true;
                tracing::debug!("the answer broke off: {error}");
                self.journey.broke_off(match error {
                    BodyError::TimedOut => "upstream_timeout",
                    BodyError::Cut => "plugin_cut",
                    BodyError::TooLarge | BodyError::Transport(_) => "upstream_reset",
                });
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.journey.broke_off("client_closed");
        }
    }
}
