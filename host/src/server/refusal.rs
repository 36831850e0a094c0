//! Connections that are not let in: each gets its answer at once and is forgotten. No task, no timer, and nothing of what
//! the client sends is read.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, Write},
    net::Shutdown,
    time::{Duration, Instant},
};

use super::socket::Socket;
use crate::clock;

const ANSWER: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// How long a refused connection stays half open: closed with bytes unread it would be reset, and the reset could
/// overtake the answer (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(1);

/// Refused connections of one worker that are half open. Beyond that the oldest is closed: those who knock must not take
/// the descriptors of those who are in.
const MOST: usize = 256;

/// The refused connections of one worker, the oldest first.
#[derive(Default)]
pub struct Refusals(RefCell<VecDeque<(Instant, socket2::Socket)>>);

impl Refusals {
    pub fn refuse(&self, socket: Socket) {
        // A client that is gone needs no answer.
        let Ok(socket) = answer(socket) else { return };
        let mut refused = self.0.borrow_mut();
        if refused.len() >= MOST {
            refused.pop_front();
        }
        refused.push_back((clock::now(), socket));
    }

    /// Closes those that had their time.
    pub fn sweep(&self) {
        let (mut refused, now) = (self.0.borrow_mut(), clock::now());
        let had_time = |since: Instant| now.saturating_duration_since(since) > LINGER;
        while refused.pop_front_if(|(since, _)| had_time(*since)).is_some() {}
    }

    /// As of the last sweep.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// The answer fits into what a new socket buffers, so it is written at once or never.
fn answer(socket: Socket) -> io::Result<socket2::Socket> {
    let mut socket = socket.into_std()?;
    socket.write_all(ANSWER)?;
    socket.shutdown(Shutdown::Write)?;
    Ok(socket)
}
