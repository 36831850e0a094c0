//! Copies of requests for another upstream, which never slow the request down: what the other one is too slow for, or
//! too small, is dropped.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    journey::Journey,
    outgoing::{self, Host, Letter},
};
use crate::{
    body::{Body, BodyError, Polled},
    snapshot::Mirroring,
    upstream::{Ask, answer},
};

const MIRRORED: HeaderName = HeaderName::from_static("x-gateway-mirror");

/// Sends a copy on its way, where the route wants one of this request.
pub fn copy(journey: &Journey, letter: &mut Letter) {
    let Some(mirror) = &journey.onward().mirror else { return };
    let settings = &mirror.settings;
    let request = &mut letter.request;
    if journey.upgrade.is_some()
        || !settings.methods.contains(request.method())
        || rand::random::<f64>() >= settings.share
    {
        return;
    }
    let numbers = &mirror.cluster.numbers;
    let too_long = request.body().size_hint().lower() > settings.body as u64;
    let Some(place) = Place::take(mirror).filter(|_| !too_long) else {
        numbers.mirror_dropped.add(1);
        return;
    };
    let mut head = outgoing::copy_head(request);
    mark(&mut head.headers, settings.credentials);
    let body = match request.body() {
        Body::Empty => Body::Empty,
        Body::Full(bytes) => Body::Full(bytes.clone()),
        Body::Incoming(_) | Body::Boxed(_) => tee(request.body_mut(), settings.body),
    };
    let (copy, host) = (Box::new(Request::from_parts(head, body)), letter.host.clone());
    let mirror = mirror.clone();
    journey.tasks().spawn(async move {
        let _place = place;
        send(&mirror, copy, &host).await;
    });
}

fn mark(headers: &mut HeaderMap, credentials: bool) {
    if !credentials {
        for name in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION] {
            headers.remove(name);
        }
    }
    headers.insert(MIRRORED, HeaderValue::from_static("1"));
}

/// Sends the copy, and reads its answer for no other reason than to use the connection again.
async fn send(mirror: &Mirroring, mut copy: Box<Request<Body>>, host: &Host) {
    let cluster = &mirror.cluster;
    let settings = &cluster.upstream.settings;
    let (Ok(ticket), Some(pool)) = (cluster.enter(), cluster.pick(&Ask::default())) else {
        cluster.numbers.mirror_dropped.add(1);
        return;
    };
    host.write(copy.headers_mut(), &settings.host, &pool.endpoint);
    cluster.numbers.mirrored.add(1);
    let limit = settings.timeouts.total.unwrap_or(settings.timeouts.read);
    let begun = Instant::now();
    let attempt = cluster.attempt(&pool, begun.into_std());
    let (response, connection) = match timeout_at(begun + limit, pool.clone().send(copy)).await {
        Ok(Ok(sent)) => sent,
        Ok(Err(failed)) => return attempt.failed(&failed.error),
        Err(_) => return attempt.timed_out(),
    };
    attempt.answered(response.status());
    let mut body = answer::body(response.into_body(), connection, Some(ticket), begun);
    let rest = async { while let Some(Ok(_)) = body.next_frame().await {} };
    let _ = timeout_at(begun + limit, rest).await;
}

/// One of the copies that may be under way.
struct Place(Rc<Cell<u32>>);

impl Place {
    fn take(mirror: &Mirroring) -> Option<Place> {
        let count = mirror.under_way.get();
        (count < mirror.settings.in_flight).then(|| {
            mirror.under_way.set(count + 1);
            Place(mirror.under_way.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.update(|count| count - 1);
    }
}

type Piece = Result<Frame<Bytes>, BodyError>;

/// Lets a body be read twice, the second time by the copy, which gets the pieces as they pass.
fn tee(body: &mut Body, limit: usize) -> Body {
    let (sender, receiver) = mpsc::unbounded_channel();
    let inner = std::mem::take(body);
    let length = inner.size_hint().exact();
    *body = Body::boxed(Tee { inner, copy: Some(sender), room: limit });
    Body::boxed(Copied { receiver, length, told: 0 })
}

struct Tee {
    inner: Body,
    /// None once the copy has all of it, or got no more.
    copy: Option<mpsc::UnboundedSender<Piece>>,
    /// Bytes that the copy may still get.
    room: usize,
}

impl Tee {
    fn tell(&mut self, frame: &Frame<Bytes>) {
        let Some(copy) = &self.copy else { return };
        let length = frame.data_ref().map_or(0, Bytes::len);
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            _ if length > self.room => Err(BodyError::TooLarge),
            (Some(data), _) => Ok(Frame::data(data.clone())),
            (None, Some(trailers)) => Ok(Frame::trailers(trailers.clone())),
            (None, None) => return,
        };
        self.room = self.room.saturating_sub(length);
        let ends = piece.is_err();
        // A copy that was given up listens no more.
        if copy.send(piece).is_err() || ends {
            self.copy = None;
        }
    }
}

impl HttpBody for Tee {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.tell(frame);
                if self.inner.is_end_stream() {
                    self.copy = None;
                }
            }
            Some(Err(_)) => {
                if let Some(copy) = self.copy.take() {
                    let _ = copy.send(Err(BodyError::Cut));
                }
            }
            None => self.copy = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        // What was not read to its end has no end for the copy either.
        if let Some(copy) = self.copy.take() {
            let _ = copy.send(Err(BodyError::Cut));
        }
    }
}

struct Copied {
    receiver: mpsc::UnboundedReceiver<Piece>,
    length: Option<u64>,
    /// Bytes.
    told: u64,
}

impl HttpBody for Copied {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let piece = ready!(self.receiver.poll_recv(cx));
        if let Some(data) = piece.as_ref().and_then(|piece| piece.as_ref().ok()?.data_ref()) {
            self.told += data.len() as u64;
        }
        Poll::Ready(piece)
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(self.told)))
    }
}
