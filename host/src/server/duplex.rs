//! A stream of HTTP/2 that carries another protocol in DATA frames (RFC 8441), as a connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub struct Duplex {
    incoming: RecvStream,
    outgoing: SendStream<Bytes>,
    /// What has come and was not read yet.
    rest: Bytes,
}

impl Duplex {
    pub fn new(incoming: RecvStream, outgoing: SendStream<Bytes>) -> Self {
        Duplex { incoming, outgoing, rest: Bytes::new() }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            match ready!(this.incoming.poll_data(cx)) {
                Some(data) => this.rest = data.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(buffer.remaining()));
        buffer.put_slice(&piece);
        // The client may send as much again.
        let _ = this.incoming.flow_control().release_capacity(piece.len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.outgoing.reserve_capacity(bytes.len());
        while this.outgoing.capacity() == 0 {
            match ready!(this.outgoing.poll_capacity(cx)) {
                Some(room) => _ = room.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let piece = &bytes[..bytes.len().min(this.outgoing.capacity())];
        this.outgoing.send_data(Bytes::copy_from_slice(piece), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(piece.len()))
    }

    /// The connection's task writes what there is.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A client that has reset the stream knows.
        let _ = self.outgoing.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}
