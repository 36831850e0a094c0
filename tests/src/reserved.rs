//! Ports that are known before anybody listens on them.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// A port of the system's choice that nobody else gets: it stays bound, without listening.
pub struct Reserved(Socket);

impl Reserved {
    #[expect(clippy::new_without_default, reason = "there is nothing default about a port")]
    pub fn new() -> Self {
        Reserved::at(([127, 0, 0, 1], 0).into())
    }

    pub fn at(address: SocketAddr) -> Self {
        let bound = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            Ok::<_, std::io::Error>(socket)
        };
        Reserved(bound().expect("a free port"))
    }

    /// Somebody else who listens on it, until that is dropped.
    pub fn listen(&self) -> TcpListener {
        self.listen_for(1024)
    }

    /// The same with room for so many connections, and one more, that nobody has accepted.
    pub fn listen_for(&self, connections: i32) -> TcpListener {
        let bound = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_port(true)?;
            socket.set_reuse_address(true)?;
            socket.bind(&self.address().into())?;
            socket.listen(connections)?;
            Ok::<_, std::io::Error>(socket)
        };
        bound().expect("the port is ours").into()
    }

    pub fn address(&self) -> SocketAddr {
        let address = self.0.local_addr().expect("it is bound");
        address.as_socket().expect("an IP address")
    }
}
