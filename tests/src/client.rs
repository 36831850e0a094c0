//! A client that sends exactly the bytes it is given.

use std::{
    io::{self, ErrorKind, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::{
    PATIENCE,
    message::{Reader, Response},
};

pub struct Client {
    stream: TcpStream,
    pub reader: Reader,
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, target: &str) -> Response {
    request(address, "GET", target, "")
}

/// One request without body on a connection of its own. `headers` are lines that end in CRLF.
pub fn request(address: SocketAddr, method: &str, target: &str, headers: &str) -> Response {
    request_for("a.test", address, method, target, headers)
}

/// The same, for this host.
pub fn request_for(host: &str, address: SocketAddr, method: &str, target: &str, headers: &str) -> Response {
    let mut client = Client::connect(address);
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
    client.send(head);
    client.response_to(method)
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the gateway listens");
        Client::over(stream)
    }

    /// From an address of this machine's, such as 127.0.0.2.
    pub fn connect_from(source: &str, address: SocketAddr) -> Client {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        let source = SocketAddr::new(source.parse().expect("an IP address"), 0);
        socket.bind(&source.into()).expect("an address of this machine's");
        socket.connect_timeout(&address.into(), PATIENCE).expect("the gateway listens");
        Client::over(socket.into())
    }

    /// Over a Unix socket.
    pub fn connect_to_file(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("the gateway listens");
        // For the system both are sockets, and what is asked of them here is the same.
        Client::of(OwnedFd::from(stream).into())
    }

    pub fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).expect("a socket option");
        Client::of(stream)
    }

    fn of(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        let reader = Reader::new(stream.try_clone().expect("a socket can be cloned"));
        Client { stream, reader }
    }

    /// How long it waits for bytes.
    pub fn patience(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("a socket option");
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.stream.write_all(bytes.as_ref()).expect("the gateway reads");
        self
    }

    /// Sends to a gateway that may close in the middle.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// The next response, an interim one included.
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    pub fn response_to(&mut self, method: &str) -> Response {
        self.reader.response(method).unwrap_or_else(|error| {
            let raw = String::from_utf8_lossy(&self.reader.raw);
            panic!("no response: {error}; so far {:?}", raw.chars().take(2000).collect::<String>())
        })
    }

    /// So many bytes that are no response.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.reader.exactly(count).expect("so many bytes")
    }

    /// A GET on this connection, which stays open.
    pub fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")).response()
    }

    /// A GET on a connection that may be hung up meanwhile.
    pub fn try_get(&mut self, target: &str) -> io::Result<Response> {
        self.stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes())?;
        self.reader.response("GET")
    }

    /// What another thread hangs up with.
    pub fn line(&self) -> TcpStream {
        self.stream.try_clone().expect("a socket can be cloned")
    }

    /// Waits for the gateway to close; bytes before that are a fault.
    pub fn assert_closed(&mut self) {
        if let Err(fault) = self.ends() {
            panic!("not closed: {fault}");
        }
    }

    /// Whether the gateway closes within two seconds without another byte; what it does otherwise.
    pub fn ends(&mut self) -> Result<(), String> {
        self.stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket option");
        match self.reader.exactly(1) {
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                Ok(())
            }
            Err(_) => Err("it stays open".to_owned()),
            Ok(_) => Err(format!("it goes on: {:?}", String::from_utf8_lossy(self.reader.rest()))),
        }
    }

    /// Whether nothing comes for this long.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a socket option");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        peeked.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Ends this side's sending.
    pub fn finish(&mut self) -> &mut Client {
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }
}
