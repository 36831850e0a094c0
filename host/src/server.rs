//! Connections of clients: accepting, guarding, timing out, draining. It hands requests to the
//! proxy and knows nothing of what becomes of them.

pub mod bind;
mod connection;
mod door;
mod guard;
mod watch;

use std::{io, rc::Rc, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use crate::{drain::Drain, proxy::Journal, runtime::Worker, telemetry::numbers::ListenerNumbers};
use watch::Watches;

pub use door::Door;

/// What all connections of one worker share.
pub struct Site {
    worker: Worker,
    journal: Journal,
    watches: Watches,
}

impl Site {
    pub fn new(worker: Worker, journal: Journal) -> Rc<Site> {
        Rc::new(Site { worker, journal, watches: Watches::default() })
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
            self.watches.sweep(snapshot.limits.header_time, snapshot.limits.idle_time);
            self.worker.retire(snapshot.drain_timeout);
            if tokio::time::timeout(INTERVAL, drain.begun()).await.is_ok() {
                break;
            }
        }
        while !self.watches.is_empty() {
            self.watches.shut_down();
            tokio::time::sleep(INTERVAL / 10).await;
        }
    }

    /// Accepts until the door is closed or the drain begins. Nothing here is slow: the rest happens in
    /// the connection's task.
    pub async fn accept(self: Rc<Self>, listener: TcpListener, door: Rc<Door>, mut drain: Drain) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.begun() => return,
                () = door.closed() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection =
                        connection::serve(self.clone(), stream, peer, door.clone(), drain.guard());
                    tokio::task::spawn_local(connection);
                }
                Err(error) => accept_failed(&error).await,
            }
        }
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
