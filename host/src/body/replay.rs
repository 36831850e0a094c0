//! A body that can be sent again, as long as what was sent of it is not longer than a bound.

use std::{
    cell::RefCell,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, BodyError, Polled};

/// What was sent, and what is still to come. Copies of a body share it, and are read one after the other.
#[derive(Clone)]
pub struct Replay(Rc<RefCell<Record>>);

struct Record {
    rest: Body,
    sent: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// Bytes that may still be kept.
    room: usize,
    state: State,
    /// Of all of it, where that is known.
    length: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// All that was sent is kept.
    Kept,
    /// The same, and there is no more.
    Whole,
    /// It cannot be sent again.
    Lost,
}

impl Replay {
    pub fn new(rest: Body, limit: usize) -> Replay {
        let state = if rest.is_end_stream() { State::Whole } else { State::Kept };
        let length = rest.size_hint().exact();
        let record = Record { rest, sent: Vec::new(), trailers: None, room: limit, state, length };
        Replay(Rc::new(RefCell::new(record)))
    }

    /// The body from its beginning; none where it cannot be sent again. One that was taken before must not be read any
    /// more.
    pub fn body(&self) -> Option<Body> {
        let record = self.0.borrow();
        if record.state == State::Lost {
            return None;
        }
        if record.state == State::Whole && record.sent.is_empty() && record.trailers.is_none() {
            return Some(Body::Empty);
        }
        Some(Body::boxed(Playing { record: self.clone(), place: 0, told: 0, ended: false }))
    }

    /// Whether more of it was sent than is kept.
    pub fn is_lost(&self) -> bool {
        self.0.borrow().state == State::Lost
    }

    /// Whether nothing of it is still to come, so that two copies may be read at a time.
    pub fn is_whole(&self) -> bool {
        self.0.borrow().state == State::Whole
    }
}

struct Playing {
    record: Replay,
    place: usize,
    /// Bytes.
    told: u64,
    ended: bool,
}

impl HttpBody for Playing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        // Nobody is left who could send it again.
        let last = Rc::strong_count(&this.record.0) == 1;
        let record = &mut *this.record.0.borrow_mut();
        if last {
            record.sent.drain(..this.place);
            this.place = 0;
        }
        if let Some(bytes) = record.sent.get(this.place) {
            this.place += 1;
            this.told += bytes.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        if record.state == State::Whole {
            let trailers = if this.ended { None } else { record.trailers.clone() };
            this.ended = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = match ready!(Pin::new(&mut record.rest).poll_frame(cx)) {
            Some(frame) => frame.inspect_err(|_| record.forget()),
            None => {
                this.ended = true;
                record.ends();
                return Poll::Ready(None);
            }
        };
        if let Ok(frame) = &frame {
            if let Some(bytes) = frame.data_ref() {
                this.told += bytes.len() as u64;
                if !last {
                    record.keep(bytes);
                    this.place = record.sent.len();
                }
            }
            if let Some(trailers) = frame.trailers_ref() {
                record.trailers = Some(trailers.clone());
                this.ended = true;
                record.ends();
            }
            if record.rest.is_end_stream() {
                record.ends();
            }
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        let record = self.record.0.borrow();
        let told = self.place >= record.sent.len();
        match record.state {
            State::Whole => told && (self.ended || record.trailers.is_none()),
            State::Kept | State::Lost => told && record.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.record.0.borrow().length;
        length.map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(self.told)))
    }
}

impl Record {
    fn keep(&mut self, bytes: &Bytes) {
        if self.state != State::Kept {
            return;
        }
        match self.room.checked_sub(bytes.len()) {
            Some(room) => {
                self.room = room;
                self.sent.push(bytes.clone());
            }
            None => self.forget(),
        }
    }

    fn forget(&mut self) {
        self.state = State::Lost;
        drop(mem::take(&mut self.sent));
    }

    fn ends(&mut self) {
        if self.state == State::Kept {
            self.state = State::Whole;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Prefixed;
    use super::*;

    /// "abc" in three pieces.
    fn pieces() -> Body {
        let last = Body::boxed(Prefixed { first: Some("b".into()), rest: Body::Full("c".into()) });
        Body::boxed(Prefixed { first: Some("a".into()), rest: last })
    }

    #[tokio::test]
    async fn what_was_sent_is_sent_again_and_the_rest_after_it() {
        let replay = Replay::new(pieces(), 3);
        let mut first = replay.body().unwrap();
        assert_eq!(first.next_frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        drop(first);
        assert!(!replay.is_whole());
        assert_eq!(replay.body().unwrap().collect(9).await.unwrap(), "abc");
        assert!(replay.is_whole());
        assert_eq!(replay.body().unwrap().collect(9).await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn what_is_longer_than_the_bound_passes_once() {
        let replay = Replay::new(pieces(), 2);
        let body = replay.body().unwrap();
        assert_eq!(body.collect(9).await.unwrap(), "abc");
        assert!(replay.body().is_none() && !replay.is_whole());
    }

    #[tokio::test]
    async fn the_length_is_told_as_long_as_it_is_known() {
        let replay = Replay::new(Body::Full("abc".into()), 9);
        for _ in 0..2 {
            let mut body = replay.body().unwrap();
            assert_eq!(body.size_hint().exact(), Some(3));
            body.next_frame().await.unwrap().unwrap();
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
        }
        assert!(matches!(Replay::new(Body::Empty, 0).body(), Some(Body::Empty)));
    }

    #[tokio::test]
    async fn trailers_come_again() {
        struct Ends(Option<HeaderMap>);
        impl HttpBody for Ends {
            type Data = Bytes;
            type Error = BodyError;
            fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled {
                Poll::Ready(self.0.take().map(|map| Ok(Frame::trailers(map))))
            }
        }
        let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("1"))]);
        let replay = Replay::new(Body::boxed(Ends(Some(trailers.clone()))), 9);
        for _ in 0..2 {
            let mut body = replay.body().unwrap();
            let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            assert_eq!(frame.unwrap().unwrap().into_trailers().unwrap(), trailers);
            assert!(body.is_end_stream());
        }
    }
}
