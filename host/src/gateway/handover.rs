//! Listening sockets from one process to the next, so that no connection is lost between them: the
//! sockets themselves are handed on, in the way of systemd's socket activation (sd_listen_fds(3)).

use std::{env, io, os::fd::OwnedFd, process::Command, thread};

use command_fds::{CommandFdExt, FdMapping};
use listenfd::ListenFd;
use rustix::process::{Pid, Signal, getppid, kill_process};
use sd_notify::NotifyState;
use socket2::Socket;

use super::socket_file::SocketFile;
use crate::{config::Address, server::bind};

/// The first descriptor that is handed on.
const FIRST: i32 = 3;

/// Whom a successor tells that it serves.
const PREDECESSOR: &str = "WASMGATE_PREDECESSOR";

/// What a successor's sockets are called: those whose file it is to remove, and the others.
const NAMES: &str = "LISTEN_FDNAMES";
const WITH_FILE: &str = "wasmgate-file";
const PLAIN: &str = "wasmgate";

/// A socket from one process to the next.
pub struct Handed {
    pub socket: Socket,
    /// Its file is for the one who has the socket to remove; that of a service manager's is not.
    pub with_file: bool,
}

/// Sockets that the process was started with.
#[derive(Default)]
pub struct Inherited(Vec<(Address, Handed)>);

impl Inherited {
    pub fn from_environment() -> Self {
        let mut found = ListenFd::from_env();
        let names = env::var(NAMES).unwrap_or_default();
        let mut names = names.split(':');
        let sockets = (0..found.len()).filter_map(|place| {
            let with_file = names.next() == Some(WITH_FILE);
            let socket = take(&mut found, place).and_then(|socket| {
                // Not for processes that this one starts.
                socket.set_cloexec(true)?;
                socket.set_nonblocking(true)?;
                Ok((bind::address(&socket)?, Handed { socket, with_file }))
            });
            socket.inspect_err(|error| tracing::warn!("descriptor {place} that was handed on: {error}")).ok()
        });
        Inherited(sockets.collect())
    }

    /// All that listen on this address.
    pub fn take(&mut self, address: &Address) -> Vec<Handed> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(at, _)| at == address);
        self.0 = left;
        let taken: Vec<(Address, Handed)> = taken;
        taken.into_iter().map(|(_, handed)| handed).collect()
    }

    /// Closes those that nobody wanted, once nobody else serves on them.
    pub fn forget(&mut self) {
        for (address, handed) in std::mem::take(self).0.drain(..) {
            if let (Address::Unix(path), true) = (&address, handed.with_file) {
                // It is removed, if it is still there.
                let _ = SocketFile::at(path, true);
            }
            tracing::warn!(%address, "a socket that was handed on is closed: no listener has its address");
        }
    }
}

/// A socket of TCP, or a Unix one.
fn take(found: &mut ListenFd, place: usize) -> io::Result<Socket> {
    let socket = match found.take_unix_listener(place) {
        Ok(socket) => socket.map(|socket| OwnedFd::from(socket).into()),
        Err(_) => found.take_tcp_listener(place)?.map(Socket::from),
    };
    socket.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Starts the binary that now stands where this one stood, with the same arguments and these sockets. It
/// ends this process once it serves. `ended` is called if it ends before.
pub fn start_successor(sockets: Vec<Handed>, ended: impl FnOnce(String) + Send + 'static) -> io::Result<u32> {
    let mut arguments = env::args_os();
    let binary = arguments.next().ok_or(io::ErrorKind::NotFound)?;
    // The receiver is known by its own number, which is known only after the start.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(binary).args(arguments);
    let names = sockets.iter().map(|handed| if handed.with_file { WITH_FILE } else { PLAIN });
    let names = names.collect::<Vec<_>>().join(":");
    command.env("LISTEN_FDS", sockets.len().to_string()).env(NAMES, names);
    command.env(PREDECESSOR, std::process::id().to_string());
    let mappings = sockets.into_iter().zip(FIRST..);
    let mappings = mappings.map(|(handed, child_fd)| FdMapping { parent_fd: handed.socket.into(), child_fd });
    command.fd_mappings(mappings.collect()).map_err(io::Error::other)?;
    let mut child = command.spawn()?;
    let pid = child.id();
    thread::spawn(move || {
        let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        ended(status);
    });
    Ok(pid)
}

/// Tells whoever wants to know that the gateway serves: the process before it, which then drains, and
/// the service manager.
pub fn serves() {
    if let Some(pid) = predecessor() {
        match kill_process(pid, Signal::TERM) {
            Ok(()) => tracing::info!(predecessor = pid.as_raw_nonzero().get(), "took over"),
            Err(error) => tracing::warn!("the process before cannot be told to end: {error}"),
        }
    }
    notify(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
}

/// The process that has started this one on its own sockets.
pub fn predecessor() -> Option<Pid> {
    let pid = env::var(PREDECESSOR).ok().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    // Only a parent has started a successor; the number may be another process's by now.
    pid.filter(|pid| getppid() == Some(*pid))
}

/// Tells the service manager, if there is one.
pub fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}
