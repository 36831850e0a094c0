//! Listening sockets: one per worker and IP address, among which the kernel spreads the connections, and one for all of
//! them at the path of a Unix socket.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::Address;

/// Longest queue of connections that wait to be accepted; the kernel may have a lower limit.
const BACKLOG: i32 = 4096;

/// Up to `count` sockets on the same address; with port 0 the system picks one port for all of them. The mode is that of a
/// Unix socket's file.
pub fn bind(address: &Address, mode: Option<u32>, count: usize) -> io::Result<Vec<Socket>> {
    let address = match address {
        Address::Unix(path) => return Ok(vec![unix(path, mode)?]),
        Address::Ip(address) => *address,
    };
    let first = tcp(&address.into())?;
    let address = first.local_addr()?;
    let rest = (1..count).map(|_| tcp(&address));
    std::iter::once(Ok(first)).chain(rest).collect()
}

/// The address of a socket that is bound to one.
pub fn address(socket: &Socket) -> io::Result<Address> {
    let address = socket.local_addr()?;
    let path = || address.as_pathname().map(Path::to_owned).map(Address::Unix);
    let address = address.as_socket().map(Address::Ip).or_else(path);
    address.ok_or_else(|| io::Error::other("a socket without an address"))
}

fn tcp(address: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(address.domain(), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn unix(path: &Path, mode: Option<u32>) -> io::Result<Socket> {
    let (socket, address) = (Socket::new(Domain::UNIX, Type::STREAM, None)?, SockAddr::unix(path)?);
    socket.set_nonblocking(true)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(path, &address)? => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    // Nobody can connect yet.
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Whether nobody listens there any more: a process that is killed removes no file.
fn is_left_behind(path: &Path, address: &SockAddr) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    Ok(probe.connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
}
