//! One connection of a client, from its first byte to its last.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::{
    Door, Site,
    guard::Guard,
    tls,
    watch::{Busy, Verdict, Watch},
};
use crate::{
    body::BodyError,
    drain,
    limiter::Place,
    plugin::exchange::Connection,
    proxy::{self, Closed, Outgoing, Unread},
};

/// Headers that the parser takes without being told; fewer are counted by the proxy.
const PARSER_HEADERS: usize = 100;

/// The end of a head that no parser takes: it answers 400, after the requests before this one.
const POISON: &[u8] = b"\0\r\n\r\n";

/// How long the client may go on sending after the last answer.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes that the system holds of an answer before the client's side takes them, about: how exactly the client's pace is
/// seen. Connections that are fast have none.
const UNSENT: u32 = 32 << 10;

const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A client's connection, in the clear or within TLS.
pub trait Line: AsyncRead + AsyncWrite + Unpin {
    /// What carries it.
    fn tcp(&self) -> &TcpStream;
}

impl Line for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

/// Serves requests until either side closes, the sweep decides, or what comes is not HTTP.
pub async fn serve(
    site: Rc<Site>,
    stream: TcpStream,
    peer: SocketAddr,
    door: Rc<Door>,
    _place: Option<Place>,
    _guard: drain::Guard,
) {
    let Ok(local) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    // With the system's default of no limit it would take so much that a slow client seems not to take anything.
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
    let watch = site.watches.add(door.clone());
    let tls = site.worker.view().snapshot.entrance(door.id).and_then(|entrance| entrance.tls.clone());
    let Some(tls) = tls else {
        return converse(&site, stream, Connection::new(peer, local, None), &door, watch).await;
    };
    // In a box: connections in the clear have no room for what it takes.
    let secured = async move {
        let Some((stream, facts)) = tls::handshake(stream, &tls, &door, &watch).await else { return };
        converse(&site, stream, Connection::new(peer, local, Some(facts)), &door, watch).await;
    };
    Box::pin(secured).await;
}

async fn converse(site: &Rc<Site>, stream: impl Line, facts: Connection, door: &Rc<Door>, watch: Rc<Watch>) {
    let (peer, facts) = (facts.peer, Arc::new(facts));
    let limits = site.worker.view().snapshot.limits.clone();
    let (header_bytes, header_count) = (limits.header_bytes, limits.header_count);
    let guarded = Guarded::new(stream, header_bytes, watch.clone());

    let service = service_fn(|request: Request<Incoming>| {
        let (watch, facts) = (&watch, &facts);
        async move {
            let busy = watch.busy();
            let answer = proxy::handle(site.worker.view(), &site.journal, door.id, facts, request).await;
            // What the library is told ends the connection.
            let mut response = answer?;
            if watch.is_leaving() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Closed>(response.map(|outgoing| Served { outgoing, busy }))
        }
    });
    let mut builder = http1::Builder::new();
    builder.max_header_size(header_bytes).max_buf_size(header_bytes);
    if header_count > PARSER_HEADERS {
        builder.max_headers(header_count);
    }
    let mut connection = builder.serve_connection(TokioIo::new(guarded), service);
    let why = loop {
        tokio::select! {
            biased;
            result = &mut connection => {
                let Err(error) = result else { return };
                tracing::debug!(%peer, "connection: {error}");
                match error.is_parse() {
                    true if error.is_parse_too_large() => break Unread::TooLarge,
                    true => break Unread::Malformed,
                    false => return,
                }
            }
            verdict = watch.verdict() => match verdict {
                Verdict::ShutDown => Pin::new(&mut connection).graceful_shutdown(),
                Verdict::Idle => return,
                Verdict::SlowHead => break Unread::TooSlow,
                Verdict::SlowReader => {
                    tracing::debug!(%peer, "connection: the client does not take its answer");
                    // Nor is what it has not taken kept for it by the system.
                    let _ = connection.into_parts().io.into_inner().stream.tcp().set_zero_linger();
                    return;
                }
            },
        }
    };
    let parts = connection.into_parts();
    proxy::unread(&site.worker.view(), peer.ip(), why, &parts.read_buf, watch.waited());
    // To anything else the parser has answered.
    if why == Unread::TooSlow {
        let stream = parts.io.into_inner().stream;
        let _ = tokio::time::timeout(Duration::from_secs(1), refuse(stream)).await;
    }
}

async fn refuse(mut stream: impl Line) -> io::Result<()> {
    stream.write_all(SLOW_HEAD).await?;
    stream.shutdown().await
}

/// A stream whose requests are looked at before they are parsed.
struct Guarded<L> {
    stream: L,
    guard: Guard,
    watch: Rc<Watch>,
    /// What is still to be read in place of the client's bytes, once these were refused.
    poison: Option<&'static [u8]>,
    /// Runs while what the client still sends is read and thrown away.
    linger: Option<Pin<Box<Sleep>>>,
}

impl<L: Line> Guarded<L> {
    fn new(stream: L, max_line: usize, watch: Rc<Watch>) -> Self {
        Guarded { stream, guard: Guard::new(max_line), watch, poison: None, linger: None }
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
        if let Some(poison) = &mut this.poison {
            *poison = put(poison, buffer);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if !matches!(polled, Poll::Ready(Ok(()))) {
            return polled;
        }
        if let Err(offence) = this.guard.scan(&buffer.filled()[before..]) {
            tracing::debug!("refused: {}", offence.what);
            buffer.set_filled(before + offence.at);
            this.poison = Some(put(POISON, buffer));
        }
        this.watch.read(this.guard.in_head());
        polled
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
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if this.poison.is_some() || !this.guard.is_at_rest() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// An answer that keeps its connection busy until it is gone.
struct Served {
    outgoing: Outgoing,
    busy: Busy,
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.busy.is_cut_off() {
            self.outgoing.cut("client_too_slow");
        }
    }
}

impl HttpBody for Served {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.outgoing).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.outgoing.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.outgoing.size_hint()
    }
}
