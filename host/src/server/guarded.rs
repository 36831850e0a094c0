//! A client's stream, whose bytes are looked at before they are parsed, and which tells its watch what moves.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    connection::Line,
    frames::{Allowance, Frames},
    guard::{Guard, Offence},
    watch::{Verdict, Watch},
};
use crate::clock;

/// The end of a head that no parser takes: it answers 400, after the requests before this one.
const POISON: &[u8] = b"\0\r\n\r\n";

/// How long the client may go on sending after the last answer.
const LINGER: Duration = Duration::from_secs(1);

/// A stream whose requests are looked at before they are parsed.
pub struct Guarded<L: Line> {
    /// What was read already.
    first: Bytes,
    stream: L,
    look: Look,
    watch: Rc<Watch>,
    /// Runs while what the client still sends is read and thrown away.
    linger: Option<Pin<Box<Sleep>>>,
}

/// What is looked at, and what becomes of an offence.
enum Look {
    /// The poison is what is still to be read in place of the client's bytes, once these were refused.
    Http1 { guard: Guard, poison: Option<&'static [u8]> },
    /// Nothing more is read once something was refused: the connection's task is told.
    Http2 { frames: Frames, allowance: Rc<Allowance>, refused: bool },
    /// It goes on in another protocol.
    Nothing,
}

impl Look {
    fn in_head(&self) -> bool {
        match self {
            Look::Http1 { guard, .. } => guard.in_head(),
            Look::Http2 { frames, .. } => frames.in_head(),
            Look::Nothing => false,
        }
    }

    fn scan(&mut self, bytes: &[u8]) -> Result<(), Offence> {
        match self {
            Look::Http1 { guard, .. } => guard.scan(bytes),
            Look::Http2 { frames, .. } => frames.scan(bytes),
            Look::Nothing => Ok(()),
        }
    }

    /// Whether the client may have sent what was not read.
    fn leaves_a_rest(&self) -> bool {
        match self {
            Look::Http1 { guard, poison } => poison.is_some() || !guard.is_at_rest(),
            Look::Nothing => false,
            // Windows and acknowledgements, if nothing else.
            Look::Http2 { .. } => true,
        }
    }
}

impl<L: Line> Guarded<L> {
    pub fn http1(first: Bytes, stream: L, max_line: usize, watch: Rc<Watch>) -> Self {
        let look = Look::Http1 { guard: Guard::new(max_line), poison: None };
        Guarded { first, stream, look, watch, linger: None }
    }

    pub fn http2(first: Bytes, stream: L, allowance: Rc<Allowance>, watch: Rc<Watch>) -> Self {
        let frames = Frames::new(allowance.clone());
        let look = Look::Http2 { frames, allowance, refused: false };
        Guarded { first, stream, look, watch, linger: None }
    }

    /// The connection goes on in another protocol; `read` is what has come of it already.
    pub fn unguarded(mut self, read: Bytes) -> Self {
        self.look = Look::Nothing;
        if !read.is_empty() {
            self.first = [&read[..], &self.first[..]].concat().into();
        }
        self
    }

    /// Answers what is no request, without a parser, and ends.
    pub async fn refuse(mut self, answer: &[u8]) -> io::Result<()> {
        self.stream.write_all(answer).await?;
        self.stream.shutdown().await
    }

    /// Writes answers before the last one, between whole messages: the library has begun none while there are any.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut interim = self.watch.interim();
        while !interim.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &interim))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => drop(interim.drain(..count)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Closing with bytes unread would reset the connection and could take the answer with it
    /// (RFC 9112, section 9.6): wait for the client's end, though not for long.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if linger.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut bytes = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl<L: Line> AsyncRead for Guarded<L> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match &mut this.look {
            Look::Http1 { poison: Some(poison), .. } => {
                *poison = put(poison, buffer);
                return Poll::Ready(Ok(()));
            }
            Look::Http2 { refused: true, .. } => return Poll::Pending,
            Look::Http2 { allowance, .. } => allowance.at(clock::seconds()),
            Look::Http1 { guard, .. } if guard.is_held() => {
                ready!(this.watch.poll_resumed(cx));
                guard.resume();
            }
            Look::Http1 { .. } | Look::Nothing => {}
        }
        let before = buffer.filled().len();
        if this.first.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        } else {
            let count = this.first.len().min(buffer.remaining());
            buffer.put_slice(&this.first.split_to(count));
        }
        if let Err(offence) = this.look.scan(&buffer.filled()[before..]) {
            buffer.set_filled(before + offence.at);
            match &mut this.look {
                Look::Http1 { poison, .. } => {
                    tracing::debug!("refused: {}", offence.what);
                    *poison = Some(put(POISON, buffer));
                }
                Look::Nothing => {}
                Look::Http2 { frames, refused, .. } => {
                    *refused = true;
                    this.watch.decide(match frames.has_begun() {
                        true => Verdict::Flood(offence.what),
                        false => Verdict::Malformed(offence.what),
                    });
                    if offence.at == 0 {
                        return Poll::Pending;
                    }
                }
            }
        }
        if let Look::Http1 { guard, .. } = &this.look
            && guard.is_held()
        {
            this.watch.hold();
            let known = buffer.filled().len() - guard.beyond();
            this.first = [&buffer.filled()[known..], &this.first[..]].concat().into();
            buffer.set_filled(known);
        }
        this.watch.read(this.look.in_head());
        Poll::Ready(Ok(()))
    }
}

/// As much as there is room for; returns the rest.
fn put(bytes: &'static [u8], buffer: &mut ReadBuf<'_>) -> &'static [u8] {
    let (now, later) = bytes.split_at(bytes.len().min(buffer.remaining()));
    buffer.put_slice(now);
    later
}

impl<L: Line> AsyncWrite for Guarded<L> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if this.look.leaves_a_rest() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

impl<L: Line> Drop for Guarded<L> {
    fn drop(&mut self) {
        if self.watch.is_cut_off() {
            // What the client has not taken is not kept for it by the system either.
            self.stream.socket().set_zero_linger();
        }
    }
}
