//! How long each connection has been idle or in the middle of a head. One sweep over all of them
//! every now and then, in place of a timer per request.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::Door;
use crate::clock;

/// One connection's state, written by it and read by the sweep.
pub struct Watch {
    door: Rc<Door>,
    waiting: Cell<Waiting>,
    since: Cell<Instant>,
    /// Requests that are being answered.
    in_flight: Cell<u32>,
    verdict: Cell<Option<Verdict>>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// For another request.
    Idle,
    /// For the rest of a head, or for the first one.
    Head,
}

/// What the sweep decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer what is under way, then close.
    ShutDown,
    /// Close: nothing came for too long.
    Idle,
    /// Close with 408: the head did not arrive in time.
    SlowHead,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.door.numbers.closed.add(1);
    }
}

/// All connections of a worker.
#[derive(Default)]
pub struct Watches(RefCell<Vec<Weak<Watch>>>);

impl Watches {
    pub fn add(&self, door: Rc<Door>) -> Rc<Watch> {
        door.numbers.accepted.add(1);
        let watch = Rc::new(Watch {
            door,
            waiting: Cell::new(Waiting::Head),
            since: Cell::new(clock::now()),
            in_flight: Cell::new(0),
            verdict: Cell::new(None),
            changed: Notify::new(),
        });
        self.0.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    pub fn sweep(&self, header_time: Duration, idle_time: Duration) {
        let now = clock::advance();
        self.each(|watch| {
            if watch.door.is_closed() {
                return watch.decide(Verdict::ShutDown);
            }
            if watch.in_flight.get() > 0 {
                return;
            }
            let waited = now.saturating_duration_since(watch.since.get());
            match watch.waiting.get() {
                Waiting::Head if waited > header_time => watch.decide(Verdict::SlowHead),
                Waiting::Idle if waited > idle_time => watch.decide(Verdict::Idle),
                _ => {}
            }
        });
    }

    pub fn shut_down(&self) {
        self.each(|watch| watch.decide(Verdict::ShutDown));
    }

    /// As of the last sweep.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    fn each(&self, mut look: impl FnMut(&Watch)) {
        self.0.borrow_mut().retain(|watch| match watch.upgrade() {
            Some(watch) => {
                look(&watch);
                true
            }
            None => false,
        });
    }
}

impl Watch {
    /// Returns with the sweep's next decision.
    pub async fn verdict(&self) -> Verdict {
        loop {
            if let Some(verdict) = self.verdict.take() {
                return verdict;
            }
            self.changed.notified().await;
        }
    }

    /// Told with every read: whether the connection is in the middle of a head.
    pub fn read(&self, in_head: bool) {
        let waiting = if in_head { Waiting::Head } else { Waiting::Idle };
        if self.waiting.replace(waiting) != waiting {
            self.since.set(clock::now());
        }
    }

    /// A request is being answered until the returned value is dropped.
    pub fn busy(self: &Rc<Self>) -> Busy {
        self.in_flight.update(|count| count + 1);
        Busy(self.clone())
    }

    fn decide(&self, verdict: Verdict) {
        self.verdict.set(Some(verdict));
        self.changed.notify_one();
    }
}

pub struct Busy(Rc<Watch>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.update(|count| count - 1);
        self.0.since.set(clock::now());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn tells_slow_heads_from_idle_connections() {
        let watches = Watches::default();
        let watch = watches.add(Door::new(0, Arc::default()));
        let decided = |header, idle| {
            watches.sweep(header, idle);
            watch.verdict.take()
        };
        assert_eq!(decided(LONG, LONG), None);
        assert_eq!(decided(Duration::ZERO, LONG), Some(Verdict::SlowHead), "no request yet");
        let busy = watch.busy();
        watch.read(false);
        assert_eq!(decided(Duration::ZERO, Duration::ZERO), None, "being answered");
        drop(busy);
        assert_eq!(decided(Duration::ZERO, LONG), None);
        assert_eq!(decided(LONG, Duration::ZERO), Some(Verdict::Idle));
        watch.read(true);
        assert_eq!(decided(Duration::ZERO, LONG), Some(Verdict::SlowHead));
    }

    #[test]
    fn forgets_connections_that_are_gone() {
        let watches = Watches::default();
        drop(watches.add(Door::new(0, Arc::default())));
        watches.shut_down();
        assert!(watches.0.borrow().is_empty());
    }
}
