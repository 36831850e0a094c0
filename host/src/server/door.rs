//! A listener as one worker has it: open until the config drops it.

use std::{cell::Cell, rc::Rc, sync::Arc};

use tokio::sync::Notify;

use crate::telemetry::numbers::ListenerNumbers;

pub struct Door {
    /// By which a snapshot knows which of its listeners it is.
    pub id: u32,
    pub numbers: Arc<ListenerNumbers>,
    closed: Cell<bool>,
    told: Notify,
}

impl Door {
    pub fn new(id: u32, numbers: Arc<ListenerNumbers>) -> Rc<Door> {
        Rc::new(Door { id, numbers, closed: Cell::new(false), told: Notify::new() })
    }

    /// No more connections, and those that there are end with their next answer.
    pub fn close(&self) {
        self.closed.set(true);
        self.told.notify_waiters();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Returns when it is closed.
    pub async fn closed(&self) {
        while !self.closed.get() {
            self.told.notified().await;
        }
    }
}
