//! The one signal that the gateway is going down, and the wait for what is still under way.
//! Whoever must finish holds a [`Guard`].

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

/// Told to all parts that accept work. The gateway stays up as long as one of them exists.
#[derive(Clone)]
pub struct Drain {
    signal: Signal,
    alive: mpsc::Sender<()>,
}

/// Tells of the drain to those for whom it does not wait.
#[derive(Clone)]
pub struct Signal(watch::Receiver<bool>);

/// Keeps the gateway up until it is dropped.
#[derive(Clone)]
pub struct Guard {
    _alive: Arc<mpsc::Sender<()>>,
}

/// The owner's end.
pub struct Controller {
    signal: watch::Sender<bool>,
    alive: mpsc::Receiver<()>,
}

pub fn channel() -> (Controller, Drain) {
    let (signal, seen) = watch::channel(false);
    let (sender, alive) = mpsc::channel(1);
    (Controller { signal, alive }, Drain { signal: Signal(seen), alive: sender })
}

impl Drain {
    pub fn guard(&self) -> Guard {
        Guard { _alive: Arc::new(self.alive.clone()) }
    }

    pub fn signal(&self) -> Signal {
        self.signal.clone()
    }

    /// Returns when the drain begins (or its controller is gone).
    pub async fn begun(&mut self) {
        let _ = self.signal.0.wait_for(|draining| *draining).await;
    }
}

impl Signal {
    pub fn is_draining(&self) -> bool {
        *self.0.borrow()
    }
}

impl Controller {
    /// Starts the drain and waits until all [`Drain`]s and [`Guard`]s are gone: true if that was within the limit.
    pub async fn drain(mut self, limit: Duration) -> bool {
        self.signal.send_replace(true);
        tokio::time::timeout(limit, self.alive.recv()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_guards_up_to_the_limit() {
        let (controller, drain) = channel();
        let guard = drain.guard();
        let mut listener = drain.clone();
        drop(drain);
        let work = tokio::spawn(async move {
            listener.begun().await;
            tokio::task::yield_now().await;
            drop((listener, guard));
        });
        assert!(controller.drain(Duration::from_secs(60)).await);
        work.await.unwrap();
    }

    #[tokio::test]
    async fn gives_up_after_the_limit() {
        let (controller, drain) = channel();
        let _guard = drain.guard();
        assert!(!controller.drain(Duration::from_millis(10)).await);
    }
}
