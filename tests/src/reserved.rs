//! Ports that are known before anybody listens on them.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A port of the system's choice that nobody else gets: it stays bound, without listening.
pub struct Reserved(Socket);

impl Reserved {
    #[expect(clippy::new_without_default, reason = "there is nothing default about a port")]
    pub fn new() -> Self {
        let bound = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_port(true)?;
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
            Ok::<_, std::io::Error>(socket)
        };
        Reserved(bound().expect("a free port"))
    }

    pub fn address(&self) -> SocketAddr {
        let address = self.0.local_addr().expect("it is bound");
        address.as_socket().expect("an IP address")
    }
}
