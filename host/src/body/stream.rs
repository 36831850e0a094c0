//! The body of a message on a stream of HTTP/2.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

use super::{BodyError, Polled};

pub struct Stream {
    incoming: RecvStream,
    /// Bytes that the head has announced and that have not come; the library holds the peer to them.
    announced: Option<u64>,
    at_trailers: bool,
}

impl Stream {
    /// `headers` are those of the head.
    pub fn new(incoming: RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Stream { incoming, announced: length.and_then(|text| text.parse().ok()), at_trailers: false }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        let broken = |error: h2::Error| Some(Err(BodyError::Transport(error.into())));
        if !this.at_trailers {
            match ready!(this.incoming.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Whoever asks for a piece has room for it.
                    let _ = this.incoming.flow_control().release_capacity(data.len());
                    this.announced = this.announced.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(broken(error)),
                None => this.at_trailers = true,
            }
        }
        match ready!(this.incoming.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|map| Ok(Frame::trailers(map)))),
            Err(error) => Poll::Ready(broken(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
