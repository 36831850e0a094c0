//! What a process writes to its standard error. That is a socket, which can be asked whether there is more: a test never
//! sees less than was written before.

use std::{
    io::{ErrorKind, Read},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
    sync::{Mutex, PoisonError},
};

use socket2::Socket;

/// `MSG_PEEK | MSG_DONTWAIT` of Linux.
const PEEK_WITHOUT_WAITING: i32 = 0x02 | 0x40;

pub struct Log {
    socket: Socket,
    text: Mutex<Vec<u8>>,
}

impl Log {
    /// With the end that the process writes.
    pub fn new() -> (Log, Stdio) {
        let (own, other) = UnixStream::pair().expect("a pair of sockets");
        let socket = Socket::from(OwnedFd::from(own));
        (Log { socket, text: Mutex::default() }, OwnedFd::from(other).into())
    }

    /// The whole lines so far, from this byte on.
    pub fn text(&self, from: usize) -> String {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        self.take(&mut text);
        let end = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        String::from_utf8_lossy(text.get(from..end).unwrap_or_default()).into_owned()
    }

    /// Takes what comes to the end, so that nobody who writes has to wait.
    pub fn follow(&self) {
        loop {
            match self.socket.peek(&mut [MaybeUninit::uninit()]) {
                Ok(0) => return,
                Ok(_) => self.take(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// What has come and is not taken yet. Whoever has the lock is the only one who reads: what was peeked at is there.
    fn take(&self, text: &mut Vec<u8>) {
        let mut bytes = [0; 65_536];
        while let Ok(1) = self.socket.recv_with_flags(&mut [MaybeUninit::uninit()], PEEK_WITHOUT_WAITING) {
            let count = (&self.socket).read(&mut bytes).unwrap_or(0);
            text.extend_from_slice(&bytes[..count]);
        }
    }
}
