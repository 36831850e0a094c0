//! An upstream whose faults are switched while it runs, and that can be killed and started again.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use crate::Reserved;

/// What it does with the requests that come from now on; their bodies have a Content-Length or none. Good answers are its
/// address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Well,
    /// Answers after this time.
    Slow(Duration),
    /// Never answers.
    Hangs,
    /// Answers with this status.
    Status(u16),
    /// The same for so many percent of the requests, evenly.
    Sometimes(u16, usize),
    /// Resets the connection in place of an answer.
    Resets,
    /// The same in the middle of the answer's body.
    Breaks,
    /// Says that the body is longer than it is, and closes.
    Short,
    /// Closes the connection after an answer, which does not say so.
    Once,
}

/// As an endpoint it is its address. Killed when it goes out of scope.
pub struct Faulty {
    port: Reserved,
    shared: Arc<Shared>,
    running: Option<Running>,
}

struct Shared {
    mood: Mutex<Mood>,
    requests: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    under_way: AtomicUsize,
    broken: AtomicUsize,
}

struct Running {
    /// Dropped when it is to end.
    alive: watch::Sender<()>,
    thread: JoinHandle<()>,
}

impl Faulty {
    pub fn start() -> Faulty {
        let mut faulty = Faulty::down();
        faulty.restart();
        faulty
    }

    /// So many that are well.
    pub fn several<const N: usize>() -> [Faulty; N] {
        std::array::from_fn(|_| Faulty::start())
    }

    /// One that has an address and does not run yet: who comes is refused.
    pub fn down() -> Faulty {
        Faulty::at(Reserved::new())
    }

    /// On the port of another one, at another address of this machine.
    pub fn beside(&self, address: [u8; 4]) -> Faulty {
        let mut faulty = Faulty::at(Reserved::at((address, self.address().port()).into()));
        faulty.restart();
        faulty
    }

    fn at(port: Reserved) -> Faulty {
        let shared = Shared {
            mood: Mutex::new(Mood::Well),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
        };
        Faulty { port, shared: Arc::new(shared), running: None }
    }

    /// Ends as a process does that is killed: connections are reset and new ones refused.
    pub fn kill(&mut self) {
        if let Some(Running { alive, thread }) = self.running.take() {
            drop(alive);
            let _ = thread.join();
        }
    }

    /// Listens on its port again.
    pub fn restart(&mut self) {
        self.kill();
        let (alive, ends) = watch::channel(());
        let (listener, shared, name) = (self.port.listen(), self.shared.clone(), self.address().to_string());
        listener.set_nonblocking(true).expect("a socket option");
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(accept(listener, shared, name.into(), ends));
        });
        self.running = Some(Running { alive, thread });
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub fn set(&self, mood: Mood) {
        *lock(&self.shared.mood) = mood;
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Requests so far.
    pub fn count(&self) -> usize {
        self.shared.requests.load(SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// Connections that are there now.
    pub fn open(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    /// Requests without an answer.
    pub fn under_way(&self) -> usize {
        self.shared.under_way.load(SeqCst)
    }

    /// Answers that it broke off in their bodies.
    pub fn broken(&self) -> usize {
        self.shared.broken.load(SeqCst)
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    name: Arc<str>,
    mut ends: watch::Receiver<()>,
) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ends.changed() => break,
        };
        let Ok((mut stream, _)) = accepted else { continue };
        shared.connections.fetch_add(1, SeqCst);
        let (shared, name, mut ends) = (shared.clone(), name.clone(), ends.clone());
        connections.spawn(async move {
            let _open = Counted::new(&shared.open);
            let killed = tokio::select! {
                served = serve(&mut stream, &shared, &name) => served.is_err(),
                _ = ends.changed() => true,
            };
            if killed {
                reset(&stream);
            }
        });
        while connections.try_join_next().is_some() {}
    }
    // Before the connections: nobody comes back to it.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// What follows is the reset in place of an orderly end.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Fails where the connection is to be reset.
async fn serve(stream: &mut TcpStream, shared: &Shared, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while read_request(stream, &mut buffer).await? {
        let number = shared.requests.fetch_add(1, SeqCst);
        let _under_way = Counted::new(&shared.under_way);
        let mood = *lock(&shared.mood);
        let pause = match mood {
            Mood::Hangs => Duration::MAX,
            Mood::Slow(time) => time,
            _ => Duration::ZERO,
        };
        tokio::select! {
            biased;
            () = sleep(pause) => {}
            // Nobody sends the next request before the answer.
            _ = stream.read_buf(&mut buffer) => return Ok(()),
        }
        let (status, length) = match mood {
            Mood::Resets => return Err(io::Error::other("as it was told")),
            Mood::Status(status) => (status, name.len()),
            // So that n in 100 are spread over the 100.
            Mood::Sometimes(status, percent) if number * percent % 100 < percent => (status, name.len()),
            Mood::Breaks | Mood::Short => (200, name.len() * 2),
            _ => (200, name.len()),
        };
        if length > name.len() {
            shared.broken.fetch_add(1, SeqCst);
        }
        let answer = format!("HTTP/1.1 {status} Some\r\nContent-Length: {length}\r\n\r\n{name}");
        stream.write_all(answer.as_bytes()).await?;
        match mood {
            Mood::Breaks => return Err(io::Error::other("as it was told")),
            Mood::Short | Mood::Once => break,
            _ => {}
        }
    }
    Ok(())
}

/// Counted until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl Counted<'_> {
    fn new(count: &AtomicUsize) -> Counted<'_> {
        count.fetch_add(1, SeqCst);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// One request with its body; false where the connection ended before it.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(false);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let end = end + length.unwrap_or(0);
    while buffer.len() < end {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(false);
        }
    }
    buffer.drain(..end);
    Ok(true)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
