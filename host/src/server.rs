//! Connections of clients: accepting, guarding, timing out, draining. It hands requests to the
//! proxy and knows nothing of what becomes of them.

pub mod bind;
mod connection;
mod door;
mod frames;
mod guard;
mod guarded;
mod http1;
mod http2;
mod refusal;
mod tls;
mod watch;

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};

use crate::{
    drain::Drain,
    limiter::Full,
    proxy::{self, Journal, Unread},
    runtime::Worker,
    telemetry::numbers::ListenerNumbers,
};
use refusal::Refusals;
use watch::Watches;

pub use door::Door;

/// What all connections of one worker share.
pub struct Site {
    worker: Worker,
    journal: Journal,
    watches: Watches,
    refusals: Refusals,
}

impl Site {
    pub fn new(worker: Worker, journal: Journal) -> Rc<Site> {
        Rc::new(Site { worker, journal, watches: Watches::default(), refusals: Refusals::default() })
    }

    /// What this worker counts of a listener.
    pub fn listener_numbers(&self, listener: &Arc<str>) -> Arc<ListenerNumbers> {
        self.worker.view().snapshot.metrics.listener(listener, self.worker.number)
    }

    /// Ends connections that idle or dawdle; once the drain begins all of them, gently, and then returns.
    pub async fn sweep(self: Rc<Self>, mut drain: Drain) {
        const INTERVAL: Duration = Duration::from_millis(100);
        loop {
            let snapshot = self.worker.view().snapshot.clone();
            self.watches.sweep(&snapshot.limits);
            self.refusals.sweep();
            self.worker.sweep(snapshot.drain_timeout);
            if tokio::time::timeout(INTERVAL, drain.begun()).await.is_ok() {
                break;
            }
        }
        loop {
            // At least once: those who wait to be accepted are let in meanwhile.
            self.watches.shut_down();
            self.refusals.sweep();
            tokio::time::sleep(INTERVAL / 10).await;
            if self.watches.is_empty() && self.refusals.is_empty() {
                return;
            }
        }
    }

    /// Accepts until the door is closed or the drain begins. Nothing here is slow: the rest happens in
    /// the connection's task.
    pub async fn accept(self: Rc<Self>, listener: TcpListener, door: Rc<Door>, mut drain: Drain) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.begun() => break,
                () = door.closed() => break,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &door, &drain),
                Err(error) => accept_failed(&error).await,
            }
        }
        // Who is connected already would be reset with the socket.
        let mut waker = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok((stream, peer))) = listener.poll_accept(&mut waker) {
            self.admit(stream, peer, &door, &drain);
        }
    }

    fn admit(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, door: &Rc<Door>, drain: &Drain) {
        let view = self.worker.view();
        let client = (!view.snapshot.forwarding.trusts(peer.ip())).then(|| peer.ip());
        let limiter = view.snapshot.limiter(door.id);
        let place = match limiter.map(|limiter| limiter.connect(client)).transpose() {
            Ok(place) => place,
            Err(full) => {
                let limit = match full {
                    Full::Listener => 0,
                    Full::Client => 1,
                };
                door.numbers.refused[limit].add(1);
                proxy::unread(&view, peer.ip(), Unread::Full(full), &[], Duration::ZERO);
                return self.refusals.refuse(stream);
            }
        };
        let connection = connection::serve(self.clone(), stream, peer, door.clone(), place, drain.guard());
        tokio::task::spawn_local(connection);
    }
}

/// A client that is gone again is nothing; out of descriptors or memory, waiting helps.
async fn accept_failed(error: &io::Error) {
    use io::ErrorKind as K;
    if !matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::Interrupted) {
        tracing::warn!("cannot accept connections: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
