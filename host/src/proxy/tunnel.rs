//! Connections that go on in another protocol once a request was answered with 101 (RFC 9110, section 7.8), or its like in
//! HTTP/2 (RFC 8441): bytes in both directions until both sides have ended, or nothing has moved for too long.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Version, header};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use super::{error::ProxyError, headers, journey::Journey};
use crate::upstream::{
    Ticket,
    pool::{Connection, Switched},
};

/// What a request of HTTP/2 asks to go on in (":protocol"); an extension of its head.
#[derive(Clone)]
pub struct Protocol(pub HeaderValue);

/// What the request asks to go on in. None where it asks for nothing, for several protocols, or has a body.
pub fn wanted(map: &HeaderMap, version: Version) -> Option<HeaderValue> {
    let mut lines = map.get_all(header::UPGRADE).iter();
    let (Some(protocol), None) = (lines.next(), lines.next()) else { return None };
    let one = !protocol.is_empty() && !protocol.as_bytes().iter().any(|byte| matches!(byte, b',' | b' '));
    let empty = !map.contains_key(header::TRANSFER_ENCODING)
        && map.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0");
    (version == Version::HTTP_11 && one && empty && headers::connection_names(map, "upgrade"))
        .then(|| protocol.clone())
}

/// The upstream's side, once it has agreed.
pub struct Agreed {
    upstream: Switched,
    idle: Duration,
    /// Held to the end.
    _connection: Connection,
    _ticket: Ticket,
}

impl Agreed {
    /// The upstream's answer was 101: an error where nobody asked it to, or for something else.
    pub async fn of(
        journey: &Journey,
        headers: &HeaderMap,
        mut connection: Connection,
        ticket: Ticket,
    ) -> Result<Agreed, ProxyError> {
        let chosen = headers.get(header::UPGRADE);
        let agreed = journey
            .upgrade
            .as_ref()
            .zip(chosen)
            .is_some_and(|(wanted, chosen)| wanted.as_bytes().eq_ignore_ascii_case(chosen.as_bytes()));
        let idle = connection.tunnel_time();
        match connection.switched().await.filter(|_| agreed) {
            Some(upstream) => Ok(Agreed { upstream, idle, _connection: connection, _ticket: ticket }),
            None => Err(ProxyError::Switched),
        }
    }
}

/// What becomes of a client's connection after the answer.
pub struct Tunnel {
    pub agreed: Agreed,
    /// Ends with it.
    pub journey: Rc<Journey>,
}

impl Tunnel {
    /// Returns when it is over.
    pub async fn run(self, mut client: impl AsyncRead + AsyncWrite + Unpin) {
        let Tunnel { agreed: Agreed { upstream, idle, _connection, _ticket }, journey } = self;
        let Switched { stream: mut upstream, first, .. } = upstream;
        let (mut up, mut down) = (Way::default(), Way { rest: first, ..Way::default() });
        // Set anew only when it is over, for bytes move often.
        let mut moved = Instant::now();
        let mut timer = pin!(sleep_until(moved + idle));
        let ended = poll_fn(|cx| {
            let sent = up.poll(&mut client, &mut upstream, cx);
            let received = down.poll(&mut upstream, &mut client, cx);
            let (up_moved, down_moved) = (up.take_moved(), down.take_moved());
            if up_moved + down_moved > 0 {
                moved = Instant::now();
                journey.bytes_in.update(|bytes| bytes + up_moved);
                journey.bytes_out.update(|bytes| bytes + down_moved);
            }
            match (sent, received) {
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(true)),
                (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => {
                    return Poll::Ready(Err(error));
                }
                _ => {}
            }
            while timer.as_mut().poll(cx).is_ready() {
                if moved + idle <= Instant::now() {
                    return Poll::Ready(Ok(false));
                }
                timer.as_mut().reset(moved + idle);
            }
            Poll::Pending
        });
        match ended.await {
            Ok(true) => {}
            Ok(false) => journey.broke_off("tunnel_idle"),
            Err(error) => tracing::debug!(route = &*journey.route().name, "tunnel: {error}"),
        }
    }
}

/// How much is read at a time.
const PIECE: usize = 16 << 10;

thread_local! {
    /// Where bytes are between two sockets. All tunnels of a worker share it: those that are idle need none.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// One direction.
#[derive(Default)]
struct Way {
    /// What was read and the other side does not take yet.
    rest: Bytes,
    state: State,
    /// Bytes that the other side took since it was asked last.
    moved: u64,
    unflushed: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Nothing more comes; the other side is to be told.
    Ending,
    Ended,
}

impl Way {
    fn take_moved(&mut self) -> u64 {
        std::mem::take(&mut self.moved)
    }

    /// Moves what can be moved; ready when it has come to its end.
    fn poll<R, W>(&mut self, from: &mut R, to: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let moved = self.poll_move(from, to, cx);
        if self.unflushed && Pin::new(to).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        moved
    }

    fn poll_move<R, W>(&mut self, from: &mut R, to: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while !self.rest.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest))?;
                self.wrote(written)?;
                self.rest.advance(written);
            }
            match self.state {
                State::Open => {
                    ready!(BUFFER.with_borrow_mut(|buffer| self.poll_piece(buffer, from, to, cx)))?;
                }
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    (self.state, self.unflushed) = (State::Ended, false);
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Reads once. What the other side does not take of it is kept.
    fn poll_piece<R, W>(
        &mut self,
        buffer: &mut [u8],
        from: &mut R,
        to: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(from).poll_read(cx, &mut read))?;
        let mut piece = read.filled();
        if piece.is_empty() {
            self.state = State::Ending;
        }
        while !piece.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, piece)? {
                Poll::Ready(written) => {
                    self.wrote(written)?;
                    piece = &piece[written..];
                }
                Poll::Pending => break,
            }
        }
        self.rest = Bytes::copy_from_slice(piece);
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, count: usize) -> io::Result<()> {
        self.moved += count as u64;
        self.unflushed = true;
        if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_way_keeps_what_is_not_taken_and_passes_the_end_on() {
        let ((mut sender, mut from), (mut to, mut receiver)) = (duplex(1 << 20), duplex(10));
        let sent: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        sender.write_all(&sent).await.unwrap();
        drop(sender);
        let mut way = Way { rest: Bytes::from_static(b"first"), ..Way::default() };
        let moving = async {
            poll_fn(|cx| way.poll(&mut from, &mut to, cx)).await.unwrap();
        };
        let mut received = Vec::new();
        let reading = receiver.read_to_end(&mut received);
        let (_, read) = tokio::join!(moving, reading);
        assert_eq!(read.unwrap(), sent.len() + 5);
        assert!(received.starts_with(b"first") && received[5..] == sent);
    }

    #[test]
    fn only_one_protocol_is_wanted() {
        let wants = |lines: &[(&'static str, &'static str)], version| {
            let map: HeaderMap = lines
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect();
            wanted(&map, version).map(|protocol| protocol.to_str().unwrap().to_owned())
        };
        let upgrade = ("connection", "keep-alive, Upgrade");
        let http = Version::HTTP_11;
        assert_eq!(wants(&[upgrade, ("upgrade", "websocket")], http).as_deref(), Some("websocket"));
        assert_eq!(wants(&[upgrade, ("upgrade", "a, b")], http), None);
        assert_eq!(wants(&[("upgrade", "websocket")], http), None, "Connection does not name it");
        assert_eq!(wants(&[upgrade, ("upgrade", "websocket")], Version::HTTP_10), None);
        assert_eq!(wants(&[upgrade, ("upgrade", "websocket"), ("content-length", "3")], http), None);
    }
}
