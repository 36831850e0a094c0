//! Connections of clients: accepting, guarding, timing out, draining. It hands requests to the
//! proxy and knows nothing of what becomes of them.

pub mod bind;
mod connection;
mod door;
mod duplex;
mod frames;
mod guard;
mod guarded;
mod http1;
mod http2;
mod proxied;
pub mod proxy_protocol;
mod refusal;
mod socket;
mod tls;
mod watch;

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::task::spawn_local;

use crate::{
    drain::Drain,
    limiter::{Full, Place},
    proxy::{self, Journal, Unread},
    runtime::Worker,
    telemetry::numbers::ListenerNumbers,
};
use refusal::Refusals;
use socket::Socket;
use watch::Watches;

pub use door::Door;
pub use socket::Listening;

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
    pub async fn accept(self: Rc<Self>, listener: Listening, door: Rc<Door>, mut drain: Drain) {
        loop {
            let accepted = tokio::select! {
                accepted = poll_fn(|cx| listener.poll_accept(cx)) => accepted,
                () = drain.begun() => break,
                () = door.closed() => break,
            };
            match accepted {
                Ok((socket, peer)) => self.admit(socket, peer, &door, &drain),
                Err(error) => accept_failed(&error).await,
            }
        }
        // Who is connected already would be reset with the socket.
        let mut waker = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok((socket, peer))) = listener.poll_accept(&mut waker) {
            self.admit(socket, peer, &door, &drain);
        }
    }

    fn admit(self: &Rc<Self>, socket: Socket, peer: SocketAddr, door: &Rc<Door>, drain: &Drain) {
        let view = self.worker.view();
        let entrance = view.snapshot.entrance(door.id);
        let is_proxied = entrance.is_some_and(|entrance| entrance.is_proxied(peer.ip()));
        let client = (!is_proxied && !view.snapshot.forwarding.trusts(peer.ip())).then(|| peer.ip());
        let place = match entrance.map(|entrance| entrance.limiter.connect(client)).transpose() {
            Ok(place) => place,
            Err(full) => return self.refuse(socket, peer, full, door),
        };
        let Ok(ends) = socket.ends(peer) else { return };
        let (site, door, guard) = (self.clone(), door.clone(), drain.guard());
        let watch = self.watches.add(door.clone());
        match is_proxied {
            true => spawn_local(proxied::serve(site, socket, ends, door, watch, place, guard)),
            false => spawn_local(connection::serve(site, socket, ends, door, watch, place, guard)),
        };
    }

    /// Counts a connection for its client, who was not known when it was let in.
    fn recognise(&self, place: &mut Place, client: SocketAddr, door: &Door) -> Result<(), Full> {
        let view = self.worker.view();
        match view.snapshot.limiter(door.id) {
            Some(limiter) if !view.snapshot.forwarding.trusts(client.ip()) => {
                limiter.recognise(place, client.ip())
            }
            _ => Ok(()),
        }
    }

    fn refuse(&self, socket: Socket, client: SocketAddr, full: Full, door: &Door) {
        let limit = match full {
            Full::Listener => 0,
            Full::Client => 1,
        };
        door.numbers.refused[limit].add(1);
        proxy::unread(&self.worker.view(), client.ip(), Unread::Full(full), &[], Duration::ZERO);
        self.refusals.refuse(socket);
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
