//! Listening sockets: one per worker and address, among which the kernel spreads the connections.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Longest queue of connections that wait to be accepted; the kernel may have a lower limit.
const BACKLOG: i32 = 4096;

/// `count` sockets on the same address; with port 0 the system picks one port for all of them.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let first = socket(address)?;
    let address = first.local_addr()?;
    let rest = (1..count).map(|_| socket(address));
    std::iter::once(Ok(first)).chain(rest).collect()
}

fn socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
