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
    leaving: Rc<Cell<bool>>,
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
pub struct Watches {
    all: RefCell<Vec<Weak<Watch>>>,
    /// All of them are to end.
    leaving: Rc<Cell<bool>>,
}

/// A connection that is to end ends with its next answer: closed while it is idle, it could meet a request
/// that is under way. One that had none for so long has to go without.
const LAST_CALL: Duration = Duration::from_secs(1);

impl Watches {
    pub fn add(&self, door: Rc<Door>) -> Rc<Watch> {
        door.numbers.accepted.add(1);
        let watch = Rc::new(Watch {
            door,
            leaving: self.leaving.clone(),
            waiting: Cell::new(Waiting::Head),
            since: Cell::new(clock::now()),
            in_flight: Cell::new(0),
            verdict: Cell::new(None),
            changed: Notify::new(),
        });
        self.all.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    pub fn sweep(&self, header_time: Duration, idle_time: Duration) {
        let now = clock::advance();
        self.each(|watch| {
            if watch.is_leaving() {
                return watch.leave(now);
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

    /// All connections are to end, those that are still to come too. To be repeated until none is left.
    pub fn shut_down(&self) {
        self.leaving.set(true);
        let now = clock::advance();
        self.each(|watch| watch.leave(now));
    }

    /// As of the last sweep.
    pub fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    fn each(&self, mut look: impl FnMut(&Watch)) {
        self.all.borrow_mut().retain(|watch| match watch.upgrade() {
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

    /// How long the connection has been in the state in which it is, by the coarse clock.
    pub fn waited(&self) -> Duration {
        clock::now().saturating_duration_since(self.since.get())
    }

    /// A request is being answered until the returned value is dropped.
    pub fn busy(self: &Rc<Self>) -> Busy {
        self.in_flight.update(|count| count + 1);
        Busy(self.clone())
    }

    /// Whether the next answer is the last one.
    pub fn is_leaving(&self) -> bool {
        self.leaving.get() || self.door.is_closed()
    }

    fn leave(&self, now: Instant) {
        let waited = now.saturating_duration_since(self.since.get());
        if self.in_flight.get() > 0 || waited > LAST_CALL {
            self.decide(Verdict::ShutDown);
        }
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
        assert!(watches.is_empty());
    }

    #[test]
    fn who_is_to_leave_gets_an_answer_first() {
        let watches = Watches::default();
        let watch = watches.add(Door::new(0, Arc::default()));
        assert!(!watch.is_leaving());
        watches.shut_down();
        assert!(watch.is_leaving() && watch.verdict.take().is_none(), "a request may be under way");
        let busy = watch.busy();
        watches.shut_down();
        assert_eq!(watch.verdict.take(), Some(Verdict::ShutDown));
        drop(busy);
        let later = clock::now() + 2 * LAST_CALL;
        watch.leave(later);
        assert_eq!(watch.verdict.take(), Some(Verdict::ShutDown));
    }
}
