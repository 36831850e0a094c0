//! A plugin that ends a request while nobody asks it: from a timer, or when a call of its own has its answer.

use std::cell::RefCell;

use tokio::sync::Notify;

use super::LocalResponse;

/// Shared by a request and its filters; counts while the request waits for its upstream.
#[derive(Default)]
pub struct Interrupt {
    ruling: RefCell<Option<Ruling>>,
    raised: Notify,
}

/// How the request ends.
pub enum Ruling {
    Respond(Box<LocalResponse>),
    /// The client's connection ends without an answer.
    Close,
}

impl Interrupt {
    /// The first one counts.
    pub fn raise(&self, ruling: Ruling) {
        self.ruling.borrow_mut().get_or_insert(ruling);
        self.raised.notify_one();
    }

    pub async fn raised(&self) -> Ruling {
        loop {
            if let Some(ruling) = self.ruling.borrow_mut().take() {
                return ruling;
            }
            self.raised.notified().await;
        }
    }
}
