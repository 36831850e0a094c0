//! Sockets of clients, and those on which they are accepted: of TCP, or Unix ones.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, SockRef};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use super::proxy_protocol::Ends;

/// Whoever comes over a Unix socket is on this machine, and has no other address.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Bytes that the system holds of an answer before the client's side takes them, about: how exactly the client's pace is
/// seen. Connections that are fast have none.
const UNSENT: u32 = 32 << 10;

pub enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    /// Needs a runtime.
    pub fn new(socket: socket2::Socket) -> io::Result<Self> {
        Ok(match socket.domain()? {
            Domain::UNIX => Listening::Unix(UnixListener::from_std(OwnedFd::from(socket).into())?),
            _ => Listening::Tcp(TcpListener::from_std(socket.into())?),
        })
    }

    /// The other side of which is known.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
        Poll::Ready(Ok(match self {
            Listening::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                (Socket::Tcp(stream), peer)
            }
            Listening::Unix(listener) => (Socket::Unix(ready!(listener.poll_accept(cx))?.0), HERE),
        }))
    }
}

/// A client's connection as the system has it.
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Both ends, with the one that is known.
    pub fn ends(&self, peer: SocketAddr) -> io::Result<Ends> {
        let local = match self {
            Socket::Tcp(stream) => stream.local_addr()?,
            Socket::Unix(_) => HERE,
        };
        Ok(Ends { peer, local })
    }

    /// Sends at once what is written, and holds little of what the client does not take.
    pub fn set_options(&self) {
        if let Socket::Tcp(stream) = self {
            let _ = stream.set_nodelay(true);
            // With the system's default of no limit it would take so much that a slow client seems not to take anything.
            let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
        }
    }

    /// Drops with the socket what was not taken of it.
    pub fn set_zero_linger(&self) {
        if let Socket::Tcp(stream) = self {
            let _ = stream.set_zero_linger();
        }
    }

    /// Waits for bytes, or what else is to be learned by reading.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.readable().await,
            Socket::Unix(stream) => stream.readable().await,
        }
    }

    /// Takes what is there.
    pub fn try_read_buf(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_read_buf(buffer),
            Socket::Unix(stream) => stream.try_read_buf(buffer),
        }
    }

    /// Waits for bytes and leaves them there.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.peek(buffer).await,
            Socket::Unix(stream) => {
                let peek = || Ok(recv(stream, &mut *buffer, RecvFlags::PEEK)?.0);
                stream.async_io(Interest::READABLE, peek).await
            }
        }
    }

    /// Without the runtime.
    pub fn into_std(self) -> io::Result<socket2::Socket> {
        Ok(match self {
            Socket::Tcp(stream) => stream.into_std()?.into(),
            Socket::Unix(stream) => OwnedFd::from(stream.into_std()?).into(),
        })
    }
}

/// Calls the method of the stream that it is.
macro_rules! either {
    ($socket:ident, $method:ident, $($argument:expr),+) => {
        match $socket.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).$method($($argument),+),
            Socket::Unix(stream) => Pin::new(stream).$method($($argument),+),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, poll_read, cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, poll_write, cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write_vectored, cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown, cx)
    }
}
