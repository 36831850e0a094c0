//! Bodies on streams of HTTP/2: those that come, and those that go.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, header};
use http_body::{Body, Frame, SizeHint};

use super::{BodyError, Patience, Polled};

/// The most that is handed over at a time, so that streams that share a connection take turns.
pub const PIECE: usize = 64 << 10;

/// Fields that have no place in HTTP/2 (RFC 9113, section 8.2.2).
const FOREIGN: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Makes a head or trailers of HTTP/1.1 such that they may be sent.
pub fn strip_foreign(map: &mut HeaderMap) {
    if map.keys().any(|name| FOREIGN.contains(name)) {
        FOREIGN.iter().for_each(|name| _ = map.remove(name));
    }
}

/// A body that comes.
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

/// A body that goes.
pub struct Pump<B> {
    pub stream: SendStream<Bytes>,
    pub body: B,
    /// So many bytes of the beginning are handed over without being asked for: they go out in one write with the head.
    pub ahead: usize,
    /// With the peer, where it leaves no room for what is there.
    pub patience: Option<Patience>,
}

/// Why a body did not go out whole.
pub enum Over {
    /// The peer wants no more of it.
    Reset,
    TooSlow,
    Broken(BodyError),
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Pump<B> {
    /// Hands it over to its end. `moved` is told of every piece.
    pub async fn run(&mut self, moved: impl Fn(usize)) -> Result<(), Over> {
        loop {
            let Some(frame) = self.next().await? else { return self.data(Bytes::new(), true) };
            let mut data = match frame.map_err(Over::Broken)?.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    strip_foreign(&mut trailers);
                    moved(0);
                    return self.stream.send_trailers(trailers).map_err(|_| Over::Reset);
                }
            };
            let last = self.body.is_end_stream();
            while !data.is_empty() {
                let room = match self.ahead.checked_sub(data.len()) {
                    Some(ahead) => {
                        self.ahead = ahead;
                        data.len()
                    }
                    None => self.room(data.len().min(PIECE)).await?,
                };
                let piece = data.split_to(room.min(data.len()));
                moved(piece.len());
                let ends = last && data.is_empty();
                self.data(piece, ends)?;
                if ends {
                    return Ok(());
                }
            }
        }
    }

    /// The next frame of the body, unless the peer wants no more of it.
    async fn next(&mut self) -> Result<Option<Result<Frame<Bytes>, BodyError>>, Over> {
        poll_fn(|cx| match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => self.stream.poll_reset(cx).map(|_| Err(Over::Reset)),
        })
        .await
    }

    /// How much the peer leaves room for, of so much that is there. Nothing else is handed over: until the last byte is, it
    /// is known that the peer is waited for.
    async fn room(&mut self, wanted: usize) -> Result<usize, Over> {
        self.stream.reserve_capacity(wanted);
        poll_fn(|cx| {
            while self.stream.capacity() == 0 {
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(_) => return Poll::Ready(Err(Over::Reset)),
                    Poll::Pending => {
                        let over = self.patience.as_mut().is_some_and(|patience| patience.is_over(cx));
                        return if over { Poll::Ready(Err(Over::TooSlow)) } else { Poll::Pending };
                    }
                }
            }
            Poll::Ready(Ok(self.stream.capacity()))
        })
        .await
    }

    fn data(&mut self, data: Bytes, ends: bool) -> Result<(), Over> {
        if let Some(patience) = &mut self.patience {
            patience.moved(data.len());
        }
        self.stream.send_data(data, ends).map_err(|_| Over::Reset)
    }
}
