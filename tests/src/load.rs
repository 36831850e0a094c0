//! Requests at a given rate, and what became of each.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::LocalSet,
    time::{sleep_until, timeout},
};

use crate::PATIENCE;

/// What is to be sent.
#[derive(Clone)]
pub struct Load {
    address: SocketAddr,
    request: Arc<str>,
    /// Requests per second; each waits for a connection that has its answer.
    rate: u32,
    connections: u32,
}

/// Under way until [`Loading::stop`].
pub struct Loading {
    alive: watch::Sender<()>,
    thread: JoinHandle<Vec<Answer>>,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub sent: Instant,
    pub took: Duration,
    /// 0 where there was none, or not all of it.
    pub status: u16,
    pub body: String,
}

impl Load {
    /// GET of this target, from 16 connections.
    pub fn get(address: SocketAddr, target: &str, rate: u32) -> Load {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        Load { address, request: request.into(), rate, connections: 16 }
    }

    /// A whole request in place of that.
    pub fn request(self, request: &str) -> Load {
        Load { request: request.into(), ..self }
    }

    pub fn connections(self, connections: u32) -> Load {
        Load { connections, ..self }
    }

    pub fn start(self) -> Loading {
        let (alive, ends) = watch::channel(());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            LocalSet::new().block_on(&runtime.expect("a runtime"), self.run(ends))
        });
        Loading { alive, thread }
    }

    /// So many requests.
    pub fn count(self, count: u32) -> Vec<Answer> {
        let time = Duration::from_secs(1) * count / self.rate;
        let loading = self.start();
        thread::sleep(time);
        loading.stop()
    }

    async fn run(self, ends: watch::Receiver<()>) -> Vec<Answer> {
        let start = tokio::time::Instant::now();
        let clients: Vec<_> = (0..self.connections)
            .map(|number| tokio::task::spawn_local(self.clone().client(start, number, ends.clone())))
            .collect();
        let mut answers = Vec::new();
        for client in clients {
            answers.extend(client.await.expect("a client does not panic"));
        }
        answers
    }

    /// Sends every n-th request of n clients.
    async fn client(
        self,
        start: tokio::time::Instant,
        number: u32,
        mut ends: watch::Receiver<()>,
    ) -> Vec<Answer> {
        let (mut answers, mut connection) = (Vec::new(), None);
        for turn in 0.. {
            let due = start + Duration::from_secs(1) * (turn * self.connections + number) / self.rate;
            tokio::select! {
                biased;
                _ = ends.changed() => break,
                () = sleep_until(due) => {}
            }
            let sent = Instant::now();
            let asked = timeout(PATIENCE, self.ask(&mut connection)).await;
            let (status, body) = match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(answer) => answer,
                Err(error) => {
                    connection = None;
                    (0, error.to_string())
                }
            };
            answers.push(Answer { sent, took: sent.elapsed(), status, body });
        }
        answers
    }

    async fn ask(&self, connection: &mut Option<TcpStream>) -> io::Result<(u16, String)> {
        let stream = match connection {
            Some(stream) => stream,
            None => {
                let stream = connection.insert(TcpStream::connect(self.address).await?);
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(self.request.as_bytes()).await?;
        let mut buffer = Vec::new();
        let malformed = || io::Error::other("no HTTP");
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).ok_or_else(malformed)?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let all = end + length.unwrap_or(0);
        while buffer.len() < all {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if head.contains("\r\nconnection: close\r\n") {
            *connection = None;
        }
        Ok((status, String::from_utf8_lossy(&buffer[end..]).into_owned()))
    }
}

impl Loading {
    /// Waits for the answers that are still to come.
    pub fn stop(self) -> Vec<Answer> {
        drop(self.alive);
        self.thread.join().expect("the load does not panic")
    }
}

/// What 99 of 100 keep.
pub fn p99(answers: &[Answer]) -> Duration {
    let mut took: Vec<_> = answers.iter().map(|answer| answer.took).collect();
    took.sort();
    took[took.len() * 99 / 100]
}
