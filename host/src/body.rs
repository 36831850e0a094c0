//! Bodies on their way, in either direction. Nothing is copied and nothing is kept unless asked for.

mod replay;
mod stream;

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::pace::{Pace, Waits};

pub use replay::Replay;
pub use stream::{Over, PIECE, Pump, Stream, strip_foreign};

/// A body as the proxy handles it.
#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    /// Anything else: counted, tapped by plugins, put together.
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError>>>),
}

/// Why a body ended before its end.
#[derive(Debug)]
pub enum BodyError {
    /// The peer broke off or sent what is not HTTP.
    Transport(Box<dyn std::error::Error + Send + Sync>),
    TooLarge,
    /// Nothing came for as long as the limit allows.
    TimedOut,
    /// A plugin cut it off.
    Cut,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Transport(error) => write!(f, "{error}"),
            BodyError::TooLarge => f.write_str("longer than its limit"),
            BodyError::TimedOut => f.write_str("stalled"),
            BodyError::Cut => f.write_str("cut off by a plugin"),
        }
    }
}

impl std::error::Error for BodyError {}

pub type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            Body::Empty => Poll::Ready(None),
            full @ Body::Full(_) => match std::mem::take(full) {
                Body::Full(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Body::Incoming(incoming) => from_hyper(Pin::new(incoming).poll_frame(cx)),
            Body::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(bytes) => bytes.is_empty(),
            Body::Incoming(incoming) => incoming.is_end_stream(),
            Body::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Incoming(incoming) => incoming.size_hint(),
            Body::Boxed(body) => body.size_hint(),
        }
    }
}

pub fn from_hyper(polled: Poll<Option<Result<Frame<Bytes>, hyper::Error>>>) -> Polled {
    polled.map(|frame| frame.map(|frame| frame.map_err(|error| BodyError::Transport(error.into()))))
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        match incoming.is_end_stream() {
            true => Body::Empty,
            false => Body::Incoming(incoming),
        }
    }
}

impl Body {
    pub fn boxed(body: impl HttpBody<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Body::Boxed(Box::pin(body))
    }

    /// All of a body whose bytes are these, with what comes after them.
    pub fn whole(bytes: Bytes, trailers: Option<Box<HeaderMap>>) -> Self {
        match trailers {
            None => Body::Full(bytes),
            Some(trailers) => Body::boxed(Trailed { bytes: Some(bytes), trailers: Some(trailers) }),
        }
    }

    pub async fn next_frame(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await
    }

    /// The bytes of the whole body, if it is no longer than `limit`.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, BodyError> {
        let start = self.read_up_to(limit).await?;
        match start.whole {
            true => Ok(start.bytes),
            false => Err(BodyError::TooLarge),
        }
    }

    /// More than `limit` bytes, or all there are.
    pub async fn read_up_to(&mut self, limit: usize) -> Result<Start, BodyError> {
        let mut start = Start::default();
        let mut more = BytesMut::new();
        while start.bytes.len() + more.len() <= limit && !start.whole {
            match self.next_frame().await.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) if start.bytes.is_empty() => start.bytes = data,
                Some(Ok(data)) => more.extend_from_slice(&data),
                end => {
                    start.whole = true;
                    let trailers = end.and_then(|end| end.err()?.into_trailers().ok());
                    start.trailers = trailers.map(Box::new);
                }
            }
        }
        if !more.is_empty() {
            start.bytes = [&start.bytes[..], &more[..]].concat().into();
        }
        Ok(start)
    }
}

/// What was read of a body.
#[derive(Default)]
pub struct Start {
    pub bytes: Bytes,
    /// There is no more.
    pub whole: bool,
    /// What came after the last byte.
    pub trailers: Option<Box<HeaderMap>>,
}

/// Bytes in front of the rest of a body.
pub struct Prefixed {
    pub first: Option<Bytes>,
    pub rest: Body,
}

impl HttpBody for Prefixed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match self.first.take() {
            Some(first) if !first.is_empty() => Poll::Ready(Some(Ok(Frame::data(first)))),
            _ => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}

/// A body with trailers. Its length is not told: HTTP/1.1 has no trailers where it is.
struct Trailed {
    bytes: Option<Bytes>,
    trailers: Option<Box<HeaderMap>>,
}

impl HttpBody for Trailed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled {
        let bytes = self.bytes.take().filter(|bytes| !bytes.is_empty()).map(Frame::data);
        let frame = bytes.or_else(|| self.trailers.take().map(|trailers| Frame::trailers(*trailers)));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.trailers.is_none()
    }
}

/// Ends a body that stalls or trickles, and one that is not whole at its `deadline`. The timer is made only when the peer
/// is waited for.
pub struct Patience {
    pace: Pace,
    deadline: Option<Instant>,
    waits: Waits,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub fn new(pace: Pace, deadline: Option<Instant>) -> Self {
        Patience { pace, deadline, waits: Waits::default(), timer: None }
    }

    /// Wraps one poll of the body.
    pub fn poll(&mut self, polled: Polled, cx: &mut Context<'_>) -> Polled {
        if let Poll::Ready(frame) = &polled {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
            self.moved(data.map_or(0, Bytes::len));
            return polled;
        }
        match self.is_over(cx) {
            true => Poll::Ready(Some(Err(BodyError::TimedOut))),
            false => Poll::Pending,
        }
    }

    /// The peer has acted.
    pub fn moved(&mut self, bytes: usize) {
        self.timer = None;
        match self.pace.rate {
            0 => self.waits = Waits::default(),
            _ => self.waits.moved(bytes, || Instant::now().into_std()),
        }
    }

    /// The peer has to act: whether its time is over. The task is woken when it is.
    pub fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if self.timer.is_none() {
            self.waits.begin(Instant::now().into_std());
            let end = self.waits.end(self.pace).map(Instant::from_std);
            self.timer = end.into_iter().chain(self.deadline).min().map(|end| Box::pin(sleep_until(end)));
        }
        self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn reads_up_to_a_limit_and_keeps_the_rest() {
        let body = || {
            let rest = Body::boxed(Prefixed { first: Some("de".into()), rest: Body::Full("f".into()) });
            Body::boxed(Prefixed { first: Some("abc".into()), rest })
        };
        let read = async |body: &mut Body, limit| {
            let start = body.read_up_to(limit).await.unwrap();
            (start.bytes, start.whole)
        };
        assert_eq!(body().collect(6).await.unwrap(), "abcdef");
        assert!(matches!(body().collect(5).await, Err(BodyError::TooLarge)));
        let mut peeked = body();
        assert_eq!(read(&mut peeked, 3).await, ("abcde".into(), false));
        assert_eq!(read(&mut peeked, 9).await, ("f".into(), true));
        assert_eq!(Body::Empty.collect(0).await.unwrap(), "");
    }

    #[tokio::test]
    async fn what_is_read_keeps_its_trailers() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("1"))]);
        for bytes in ["abc", ""] {
            let mut body = Body::whole(bytes.into(), Some(Box::new(trailers.clone())));
            let start = body.read_up_to(3).await.unwrap();
            assert_eq!((&start.bytes[..], start.whole), (bytes.as_bytes(), true));
            assert_eq!(start.trailers.as_deref(), Some(&trailers));
            assert!(body.is_end_stream() && body.next_frame().await.is_none());
        }
    }

    #[tokio::test]
    async fn patience_ends() {
        struct Never(Patience);
        impl HttpBody for Never {
            type Data = Bytes;
            type Error = BodyError;
            fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
                self.0.poll(Poll::Pending, cx)
            }
        }
        let pace = Pace { grace: Duration::from_millis(10), rate: 0 };
        let never = Never(Patience::new(pace, None));
        assert!(matches!(Body::boxed(never).collect(1).await, Err(BodyError::TimedOut)));
    }
}
