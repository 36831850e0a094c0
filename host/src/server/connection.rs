//! One connection of a client, from its first byte to its last.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Door, Site,
    frames::PREFACE,
    http1, http2,
    proxy_protocol::Ends,
    socket::Socket,
    tls,
    watch::{Busy, Watch},
};
use crate::{
    body::BodyError,
    drain,
    limiter::Place,
    plugin::exchange::Connection,
    proxy::{Outgoing, tunnel::Tunnel},
    snapshot::Entrance,
};

/// A client's connection, in the clear or within TLS.
pub trait Line: AsyncRead + AsyncWrite + Unpin {
    /// What carries it.
    fn socket(&self) -> &Socket;
}

impl Line for Socket {
    fn socket(&self) -> &Socket {
        self
    }
}

/// How much is read of a connection in the clear to see what it speaks: most requests, whole.
const FIRST: usize = 2048;

/// Serves requests until either side closes, the sweep decides, or what comes is not HTTP.
pub async fn serve(
    site: Rc<Site>,
    socket: Socket,
    Ends { peer, local }: Ends,
    door: Rc<Door>,
    watch: Rc<Watch>,
    _place: Option<Place>,
    _guard: drain::Guard,
) {
    socket.set_options();
    let entrance = |entrance: &Entrance| (entrance.tls.clone(), entrance.http2);
    let (tls, http2) = site.worker.view().snapshot.entrance(door.id).map_or((None, true), entrance);
    // In boxes: connections that need none of it have no room for what it takes.
    if let Some(tls) = tls {
        let secured = async move {
            let Some((stream, facts)) = tls::handshake(socket, &tls, &door, &watch).await else { return };
            let is_http2 = facts.alpn.as_deref() == Some("h2");
            let facts = Connection::new(peer, local, Some(facts));
            match is_http2 {
                true => Box::pin(http2::converse(&site, Bytes::new(), stream, facts, &door, watch)).await,
                false => http1::converse(&site, Bytes::new(), stream, facts, &door, watch).await,
            }
        };
        return Box::pin(secured).await;
    }
    let facts = Connection::new(peer, local, None);
    let first = match http2 {
        true => first_bytes(&socket, &watch).await,
        false => Bytes::new(),
    };
    match first.starts_with(PREFACE) {
        true => Box::pin(http2::converse(&site, first, socket, facts, &door, watch)).await,
        false => http1::converse(&site, first, socket, facts, &door, watch).await,
    }
}

/// Enough to see whether it is HTTP/2 by prior knowledge (RFC 9113, section 3.3); less where the sweep wants to have a
/// word, which HTTP/1.1 knows to say.
async fn first_bytes(socket: &Socket, watch: &Watch) -> Bytes {
    let mut first = BytesMut::new();
    loop {
        tokio::select! {
            biased;
            readable = socket.readable() => if readable.is_err() { break },
            () = watch.decided() => break,
        }
        first.reserve(FIRST);
        match socket.try_read_buf(&mut first) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(count) if count > 0 && first.len() < PREFACE.len() && PREFACE.starts_with(&first) => {}
            _ => break,
        }
    }
    first.freeze()
}

/// An answer that keeps its connection busy until it is gone.
pub struct Served {
    outgoing: Outgoing,
    busy: Busy,
}

impl Served {
    pub fn new(outgoing: Outgoing, busy: Busy) -> Served {
        Served { outgoing, busy }
    }

    /// How the connection goes on after an answer with 101.
    pub fn tunnel(&self) -> Option<Tunnel> {
        self.outgoing.tunnel()
    }

    /// The client has not taken it in time.
    pub fn cut(&mut self) {
        self.outgoing.cut("client_too_slow");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.busy.is_cut_off() {
            self.cut();
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
