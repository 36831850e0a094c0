//! Listening sockets from one process to the next, so that no connection is lost between them: the
//! sockets themselves are handed on, in the way of systemd's socket activation (sd_listen_fds(3)).

use std::{
    env, io,
    net::{SocketAddr, TcpListener},
    process::Command,
    thread,
};

use command_fds::{CommandFdExt, FdMapping};
use listenfd::ListenFd;
use rustix::process::{Pid, Signal, getppid, kill_process};
use sd_notify::NotifyState;
use socket2::SockRef;

/// The first descriptor that is handed on.
const FIRST: i32 = 3;

/// Whom a successor tells that it serves.
const PREDECESSOR: &str = "WASMGATE_PREDECESSOR";

/// Sockets that the process was started with.
#[derive(Default)]
pub struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    pub fn from_environment() -> Self {
        let mut found = ListenFd::from_env();
        let sockets = (0..found.len()).filter_map(|place| {
            let socket = found.take_tcp_listener(place).and_then(|socket| {
                let socket = socket.ok_or(io::ErrorKind::NotFound)?;
                // Not for processes that this one starts.
                SockRef::from(&socket).set_cloexec(true)?;
                socket.set_nonblocking(true)?;
                Ok((socket.local_addr()?, socket))
            });
            socket.inspect_err(|error| tracing::warn!("descriptor {place} that was handed on: {error}")).ok()
        });
        Inherited(sockets.collect())
    }

    /// All that listen on this address.
    pub fn take(&mut self, address: SocketAddr) -> Vec<TcpListener> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(at, _)| *at == address);
        self.0 = left;
        let taken: Vec<(SocketAddr, TcpListener)> = taken;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        for (address, _) in &self.0 {
            tracing::warn!(%address, "a socket that was handed on is closed: no listener has its address");
        }
    }
}

/// Starts the binary that now stands where this one stood, with the same arguments and these sockets. It
/// ends this process once it serves. `ended` is called if it ends before.
pub fn start_successor(
    sockets: Vec<TcpListener>,
    ended: impl FnOnce(String) + Send + 'static,
) -> io::Result<u32> {
    let mut arguments = env::args_os();
    let binary = arguments.next().ok_or(io::ErrorKind::NotFound)?;
    // The receiver is known by its own number, which is known only after the start.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(binary).args(arguments);
    command.env("LISTEN_FDS", sockets.len().to_string()).env_remove("LISTEN_FDNAMES");
    command.env(PREDECESSOR, std::process::id().to_string());
    let mappings = sockets.into_iter().zip(FIRST..);
    let mappings = mappings.map(|(socket, child_fd)| FdMapping { parent_fd: socket.into(), child_fd });
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
