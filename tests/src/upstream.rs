//! An upstream whose behaviour is a closure and which keeps what it got.

use std::{
    io::{self, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    PATIENCE, Reserved,
    message::{Head, Reader, Request},
};

/// Listens until the test process ends.
pub struct TestUpstream {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    /// Connections that the gateway has closed, or broken.
    ended: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    /// All bytes of the connections that ended, in the order of their ends.
    raw: Mutex<Vec<Vec<u8>>>,
}

/// One request at the upstream; its body is read when it is asked for.
pub struct Call<'a> {
    pub head: Head,
    /// Number of the request among those of the upstream, from 0.
    pub number: usize,
    stream: &'a TcpStream,
    reader: &'a mut Reader,
    requests: &'a Mutex<Vec<Request>>,
    read: Option<Request>,
    closing: bool,
}

impl TestUpstream {
    /// Calls `behaviour` for each request. What it leaves of the body is read afterwards.
    pub fn start(behaviour: impl Fn(&mut Call) -> io::Result<()> + Send + Sync + 'static) -> TestUpstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let seen = Arc::new(Seen::default());
        let (behaviour, shared) = (Arc::new(behaviour), seen.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behaviour, seen) = (behaviour.clone(), shared.clone());
                seen.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || seen.serve(&stream, &*behaviour));
            }
        });
        TestUpstream { address, seen }
    }

    /// Answers every request with these bytes.
    pub fn answering(response: impl Into<Vec<u8>>) -> TestUpstream {
        let response = response.into();
        TestUpstream::start(move |call| {
            call.body()?;
            call.write(&response)
        })
    }

    /// Answers 200 "ok".
    pub fn ok() -> TestUpstream {
        TestUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }

    /// Answers with the lines of the request's header.
    pub fn echo_headers() -> TestUpstream {
        TestUpstream::start(|call| {
            let fields = call.body()?.head.fields.0.clone();
            let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            let (text, ok) = (lines.concat(), "HTTP/1.1 200 OK\r\nContent-Length");
            call.write(format!("{ok}: {}\r\n\r\n{text}", text.len()))
        })
    }

    /// Answers with the request's body, Content-Length and the request's target in X-Target.
    pub fn echo() -> TestUpstream {
        TestUpstream::start(|call| {
            let request = call.body()?.clone();
            let (target, length) = (request.target(), request.body.len());
            let head = format!("HTTP/1.1 200 OK\r\nX-Target: {target}\r\nContent-Length: {length}\r\n\r\n");
            call.write(head)?;
            call.write(&request.body)
        })
    }

    /// An address on which nobody listens.
    pub fn nobody() -> SocketAddr {
        let reserved = Reserved::new();
        let address = reserved.address();
        // Kept to the end of the process: given back, the port could become that of another test.
        std::mem::forget(reserved);
        address
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that came completely.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.seen.requests).clone()
    }

    /// How many requests there were since [`TestUpstream::take_requests`].
    pub fn count(&self) -> usize {
        lock(&self.seen.requests).len()
    }

    /// The requests since the last time this was asked.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut *lock(&self.seen.requests))
    }

    /// The only request.
    pub fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub fn ended(&self) -> usize {
        self.seen.ended.load(Ordering::SeqCst)
    }

    /// All bytes of the connections that ended.
    pub fn raw(&self) -> Vec<Vec<u8>> {
        lock(&self.seen.raw).clone()
    }
}

impl Seen {
    fn serve(&self, stream: &TcpStream, behaviour: &dyn Fn(&mut Call) -> io::Result<()>) {
        let Ok(clone) = stream.try_clone() else { return };
        // An answer that is written in pieces must not wait for the other side's acknowledgement.
        let _ = stream.set_nodelay(true);
        let mut reader = Reader::new(clone);
        while let Ok(true) = self.turn(stream, &mut reader, behaviour) {}
        let _ = stream.shutdown(Shutdown::Both);
        lock(&self.raw).push(reader.raw);
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    /// One request; whether another may follow.
    fn turn(
        &self,
        stream: &TcpStream,
        reader: &mut Reader,
        behaviour: &dyn Fn(&mut Call) -> io::Result<()>,
    ) -> io::Result<bool> {
        let Some(head) = reader.request_head()? else { return Ok(false) };
        stream.set_write_timeout(Some(PATIENCE))?;
        let number = lock(&self.requests).len();
        let requests = &self.requests;
        let mut call = Call { head, number, stream, reader, requests, read: None, closing: false };
        if call.has_no_body() {
            call.body()?;
        }
        behaviour(&mut call)?;
        if !call.closing {
            call.body()?;
        }
        Ok(!call.closing)
    }
}

impl Call<'_> {
    /// Reads the rest of the request.
    pub fn body(&mut self) -> io::Result<&Request> {
        if self.read.is_none() {
            let (body, trailers) = self.reader.request_body(&self.head)?;
            let raw = self.reader.take_raw();
            let request = Request { head: self.head.clone(), body, trailers, raw };
            // Before any answer, so that whoever has the answer finds the request.
            lock(self.requests).push(request.clone());
            self.read = Some(request);
        }
        self.read.as_ref().ok_or_else(|| io::Error::other("read above"))
    }

    fn has_no_body(&self) -> bool {
        let framing = ["content-length", "transfer-encoding"];
        framing.iter().all(|name| self.head.fields.all(name).is_empty())
    }

    /// Reads that many bytes of what follows, as they are on the wire.
    pub fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        self.reader.exactly(count)
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// How long a write may block before it fails.
    pub fn patience(&mut self, time: Duration) -> io::Result<()> {
        self.stream.set_write_timeout(Some(time))
    }

    /// Ends the connection after this request.
    pub fn close(&mut self) -> io::Result<()> {
        self.closing = true;
        Ok(())
    }

    /// Waits until the gateway closes the connection.
    pub fn wait_for_end(&mut self) -> io::Result<()> {
        self.closing = true;
        self.reader.to_end().map(|_| ())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
