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
use tokio::time::Instant;

use super::{error::ProxyError, headers::strip_trailers, journey::Journey, tunnel::Tunnel};
use crate::{
    body::{Body, BodyError, Patience, Prefixed},
    plugin::{
        BodyMode, BodyVerdict,
        chain::Tap,
        exchange::{Phase, ResponseHead, State},
    },
};

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// The request's body: counted, held to the route's limit, not waited for without end.
pub fn from_client(journey: &Rc<Journey>, incoming: Body) -> Body {
    if incoming.is_end_stream() {
        return Body::Empty;
    }
    let limit = journey.route_spec().map_or(0, |route| route.body_limit);
    let patience = Patience::new(journey.snapshot().limits.receive, None);
    Body::boxed(ClientBody { incoming, left: limit, patience, journey: journey.clone() })
}

struct ClientBody {
    incoming: Body,
    left: u64,
    patience: Patience,
    journey: Rc<Journey>,
}

impl HttpBody for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        let polled = Pin::new(&mut this.incoming).poll_frame(cx);
        let polled = this.patience.poll(polled, cx);
        this.journey.upload.set(polled.is_ready().then(Instant::now));
        let mut frame = ready!(polled);
        if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()).and_then(Frame::data_ref) {
            let length = data.len() as u64;
            this.journey.bytes_in.update(|bytes| bytes + length);
            match this.left.checked_sub(length) {
                Some(left) => this.left = left,
                None => frame = Some(Err(BodyError::TooLarge)),
            }
        }
        if let Some(Ok(frame)) = &mut frame {
            strip_trailers(frame);
        }
        if let Some(Err(error)) = &frame {
            this.journey.cut(ProxyError::from_request_body(error));
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

/// Leads the request's body past the plugins, in the chain's order.
pub async fn tap_request(journey: &Rc<Journey>, taps: &[Tap], mut body: Body) -> Result<Body, ProxyError> {
    for tap in taps {
        let passed = pass(journey, Side::Request, *tap, body).await;
        body = match passed {
            Ok(body) => body,
            Err(Stopped::Respond(local)) => return Err(ProxyError::Local(local)),
            Err(Stopped::Close) => return Err(ProxyError::Closed),
            Err(Stopped::Broken(error)) => {
                return Err(journey.cut_short().unwrap_or(ProxyError::from_request_body(&error)));
            }
        };
    }
    Ok(body)
}

/// Leads the response's body past the plugins, in reverse order. What stops it on the way becomes
/// the response, which the plugins that are left see; none where a plugin closed.
pub async fn tap_response(journey: &Rc<Journey>, taps: &[Tap], mut body: Body) -> Option<Body> {
    if !has_body(&*journey.exchange().await, &body) {
        return Some(body);
    }
    for tap in taps {
        let passed = pass(journey, Side::Response, *tap, body).await;
        let error = match passed {
            Ok(passed) => {
                body = passed;
                continue;
            }
            Err(Stopped::Respond(local)) => ProxyError::Local(local),
            Err(Stopped::Close) => return None,
            Err(Stopped::Broken(error)) => {
                journey.cut_short().unwrap_or(ProxyError::from_response_body(&error))
            }
        };
        let mut exchange = journey.exchange().await;
        body = journey.write_local(&mut exchange, *error.into_response());
    }
    Some(body)
}

/// Whether the response's head is followed by a body that the client gets.
pub fn has_body(state: &State, body: &Body) -> bool {
    let status = state.response.as_ref().map(|response| response.status);
    state.request.method != Method::HEAD
        && !matches!(status, Some(StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED))
        && !body.is_end_stream()
}

/// Why a body did not pass a plugin.
enum Stopped {
    Respond(Box<crate::plugin::LocalResponse>),
    Close,
    Broken(BodyError),
}

#[derive(Clone, Copy)]
enum Side {
    Request,
    Response,
}

/// One plugin, in the mode that it asked for.
async fn pass(journey: &Rc<Journey>, side: Side, tap: Tap, mut body: Body) -> Result<Body, Stopped> {
    let (limit, whole) = match tap.mode {
        BodyMode::Stream => return Ok(Body::boxed(Tapped::new(journey, side, tap.plugin, body, false))),
        BodyMode::Watch => return Ok(Body::boxed(Tapped::new(journey, side, tap.plugin, body, true))),
        BodyMode::Buffer(limit) => (limit as usize, true),
        BodyMode::Peek(limit) => (limit as usize, false),
    };
    let mut start = body.read_up_to(limit).await.map_err(Stopped::Broken)?;
    if whole && !start.whole {
        return Err(Stopped::Broken(BodyError::TooLarge));
    }
    let beyond = start.bytes.split_off(start.bytes.len().min(limit));
    let (bytes, trailers) = (start.bytes, &mut start.trailers);
    let first = match ask(journey, side, tap.plugin, bytes.clone(), start.whole, true, trailers).await {
        // Only a stream can be held.
        BodyVerdict::Pass | BodyVerdict::Hold(_) => bytes,
        BodyVerdict::Replace(bytes) => bytes,
        BodyVerdict::Respond(local) => return Err(Stopped::Respond(local)),
        BodyVerdict::Close => return Err(Stopped::Close),
    };
    if start.whole {
        return Ok(Body::whole(first, start.trailers));
    }
    let rest = Body::boxed(Prefixed { first: Some(beyond), rest: body });
    Ok(Body::boxed(Prefixed { first: Some(first), rest }))
}

/// `open`: the head of the message was not sent yet. The trailers, if any, are the plugin's to change.
async fn ask(
    journey: &Journey,
    side: Side,
    plugin: usize,
    chunk: Bytes,
    end: bool,
    open: bool,
    trailers: &mut Option<Box<HeaderMap>>,
) -> BodyVerdict {
    let chain = journey.chain();
    let mut exchange = journey.exchange().await;
    exchange.ends = end;
    let verdict = match side {
        Side::Request => {
            exchange.phase = Phase::RequestBody { open };
            exchange.request_trailers = trailers.take();
            let verdict = chain.request_body(plugin, &mut exchange, chunk, end).await;
            *trailers = exchange.request_trailers.take();
            verdict
        }
        Side::Response => {
            exchange.phase = Phase::ResponseBody { open };
            exchange.response_trailers = trailers.take();
            let verdict = chain.response_body(plugin, &mut exchange, chunk, end).await;
            *trailers = exchange.response_trailers.clone();
            verdict
        }
    };
    trailers.take_if(|trailers| trailers.is_empty());
    verdict
}

type Asked = Pin<Box<dyn Future<Output = (BodyVerdict, Option<Box<HeaderMap>>)>>>;

/// A body that passes a plugin piece by piece.
struct Tapped {
    journey: Rc<Journey>,
    side: Side,
    plugin: usize,
    inner: Body,
    /// The piece at the plugin.
    asked: Option<(Bytes, Asked)>,
    /// Where the plugin holds what it has.
    held: Option<Held>,
    trailers: Option<Box<HeaderMap>>,
    ended: bool,
    /// Bytes that the head has promised and that have not passed.
    promised: Option<u64>,
}

type Held = Pin<Box<dyn Future<Output = ()>>>;

impl Tapped {
    fn new(journey: &Rc<Journey>, side: Side, plugin: usize, inner: Body, keeps_length: bool) -> Self {
        let promised = if keeps_length { inner.size_hint().exact() } else { None };
        let (journey, asked, held, trailers) = (journey.clone(), None, None, None);
        Tapped { journey, side, plugin, inner, asked, held, trailers, ended: false, promised }
    }

    fn ask(&mut self, chunk: Bytes, end: bool) {
        let (journey, side, plugin, piece) = (self.journey.clone(), self.side, self.plugin, chunk.clone());
        let mut trailers = self.trailers.take();
        let call = async move {
            let verdict = ask(&journey, side, plugin, piece, end, false, &mut trailers).await;
            (verdict, trailers)
        };
        self.asked = Some((chunk, Box::pin(call)));
        self.held = None;
        self.ended = end;
    }

    /// The bytes to pass on for the piece at the plugin.
    fn settle(&mut self, chunk: Bytes, verdict: BodyVerdict) -> Result<Bytes, BodyError> {
        match verdict {
            BodyVerdict::Pass => Ok(chunk),
            BodyVerdict::Replace(bytes) => Ok(bytes),
            BodyVerdict::Hold(released) => {
                self.held = Some(Box::pin(async move { released.notified().await }));
                Ok(Bytes::new())
            }
            BodyVerdict::Respond(local) => {
                self.journey.cut(ProxyError::Local(local));
                Err(BodyError::Cut)
            }
            BodyVerdict::Close => {
                self.journey.cut(ProxyError::Closed);
                Err(BodyError::Cut)
            }
        }
    }

    /// Holds what passes to the length that the head has promised: what is beyond would be taken for another
    /// message, and is dropped.
    fn keep_promise(&mut self, mut bytes: Bytes) -> Bytes {
        if let Some(left) = &mut self.promised {
            let fits = usize::try_from(*left).unwrap_or(usize::MAX);
            if bytes.len() > fits {
                let route = &*self.journey.route().name;
                tracing::debug!(route, "a plugin's body is longer than its Content-Length");
                bytes.truncate(fits);
            }
            *left -= bytes.len() as u64;
        }
        bytes
    }
}

impl HttpBody for Tapped {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        loop {
            if let Some((chunk, call)) = &mut this.asked {
                let (verdict, trailers) = ready!(call.as_mut().poll(cx));
                let chunk = std::mem::take(chunk);
                (this.asked, this.trailers) = (None, trailers);
                match this.settle(chunk, verdict).map(|bytes| this.keep_promise(bytes)) {
                    Ok(bytes) if bytes.is_empty() => {}
                    result => return Poll::Ready(Some(result.map(Frame::data))),
                }
            }
            if this.ended {
                return Poll::Ready(this.trailers.take().map(|map| Ok(Frame::trailers(*map))));
            }
            if this.held.as_mut().is_some_and(|held| held.as_mut().poll(cx).is_ready()) {
                this.ask(Bytes::new(), false);
                continue;
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => this.ask(Bytes::new(), true),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    // Where the length is known nobody asks for more than that: the end comes with the last piece.
                    Ok(data) => this.ask(data, this.promised.is_some() && this.inner.is_end_stream()),
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok().map(Box::new);
                        this.ask(Bytes::new(), true);
                    }
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.asked.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.promised.map_or_else(SizeHint::default, SizeHint::with_exact)
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
        if let (Some(_), Some(protocol)) = (&*journey.agreed.borrow(), &journey.upgrade) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
        }
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
    if status == StatusCode::SWITCHING_PROTOCOLS {
        headers.remove(header::CONTENT_LENGTH);
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
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &mut frame {
            None => self.ended = true,
            Some(Ok(frame)) => {
                strip_trailers(frame);
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

impl Outgoing {
    /// How the connection goes on after an answer with 101.
    pub fn tunnel(&self) -> Option<Tunnel> {
        let agreed = self.journey.agreed.take()?;
        Some(Tunnel { agreed, journey: self.journey.clone() })
    }

    /// The client does not get the rest.
    pub fn cut(&mut self, code: &'static str) {
        if !self.ended && !self.body.is_end_stream() {
            self.ended = true;
            self.journey.broke_off(code);
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.cut("client_closed");
    }
}
