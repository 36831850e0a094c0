//! How long each connection has been idle, in the middle of a head, or without taking what it asked for. One sweep over
//! all of them every now and then, in place of a timer per request.

use std::{
    cell::{Cell, RefCell, RefMut},
    io,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use tokio::sync::Notify;

use super::Door;
use crate::{
    clock,
    config::Limits,
    pace::{Pace, Waits},
    proxy::interim::Interim,
};

/// One connection's state, written by it and read by the sweep.
pub struct Watch {
    door: Rc<Door>,
    leaving: Rc<Cell<bool>>,
    waiting: Cell<Waiting>,
    since: Cell<Instant>,
    /// Of the answer that is being sent: time that the socket took nothing of it.
    sending: RefCell<Waits>,
    /// The client was too slow to take its answer.
    cut_off: Cell<bool>,
    /// Requests that are being answered.
    in_flight: Cell<u32>,
    /// Whether the answer to a request that asks for another protocol is still to come.
    held: Cell<bool>,
    /// Who waits for it to read on.
    reader: Cell<Option<Waker>>,
    /// Answers before the last one that are to be written.
    interim: RefCell<Vec<u8>>,
    /// The client can be told that the connection ends before it does.
    announces: Cell<bool>,
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
    /// Close: what is being sent is not taken.
    SlowReader,
    /// Close: too many frames that are no messages.
    Flood(&'static str),
    /// Close: it is not what was agreed on.
    Malformed(&'static str),
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
pub const LAST_CALL: Duration = Duration::from_secs(1);

impl Watches {
    pub fn add(&self, door: Rc<Door>) -> Rc<Watch> {
        door.numbers.accepted.add(1);
        let watch = Rc::new(Watch {
            door,
            leaving: self.leaving.clone(),
            waiting: Cell::new(Waiting::Head),
            since: Cell::new(clock::now()),
            sending: RefCell::default(),
            cut_off: Cell::new(false),
            in_flight: Cell::new(0),
            held: Cell::new(false),
            reader: Cell::new(None),
            interim: RefCell::default(),
            announces: Cell::new(false),
            verdict: Cell::new(None),
            changed: Notify::new(),
        });
        self.all.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    pub fn sweep(&self, limits: &Limits) {
        let now = clock::advance();
        self.each(|watch| {
            if watch.takes_too_long(limits.send, now) {
                watch.cut_off.set(true);
                return watch.decide(Verdict::SlowReader);
            }
            if watch.is_leaving() {
                return watch.leave(now);
            }
            if watch.is_busy() {
                return;
            }
            let waited = now.saturating_duration_since(watch.since.get());
            match watch.waiting.get() {
                Waiting::Head if waited > limits.header_time => watch.decide(Verdict::SlowHead),
                Waiting::Idle if waited > limits.idle_time => watch.decide(Verdict::Idle),
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

    /// Returns once there is a decision, which is left for [`Self::verdict`].
    pub async fn decided(&self) {
        let verdict = self.verdict().await;
        self.decide(verdict);
    }

    /// Told with every read: whether the connection is in the middle of a head.
    pub fn read(&self, in_head: bool) {
        let waiting = if in_head { Waiting::Head } else { Waiting::Idle };
        if self.waiting.replace(waiting) != waiting {
            self.since.set(clock::now());
        }
    }

    /// Answers before the last one that are to be written before anything else.
    pub fn interim(&self) -> RefMut<'_, Vec<u8>> {
        self.interim.borrow_mut()
    }

    /// Told with every write: what the socket took, or that it is full.
    pub fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Ready(Ok(count)) => self.sending.borrow_mut().moved(*count, clock::now),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.sending.borrow_mut().begin(clock::now()),
        }
    }

    fn takes_too_long(&self, pace: Pace, now: Instant) -> bool {
        self.sending.borrow().end(pace).is_some_and(|end| now > end)
    }

    /// How long the connection has been in the state in which it is, by the coarse clock.
    pub fn waited(&self) -> Duration {
        clock::now().saturating_duration_since(self.since.get())
    }

    /// A request is being answered until the returned value is dropped.
    pub fn busy(self: &Rc<Self>) -> Busy {
        // With requests beside each other, another one would be a way to more time.
        if !self.is_busy() {
            self.sending.borrow_mut().start_anew();
        }
        self.in_flight.update(|count| count + 1);
        Busy(self.clone())
    }

    /// The client did not take what it asked for.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off.get()
    }

    /// Whether the next answer is the last one.
    pub fn is_leaving(&self) -> bool {
        self.leaving.get() || self.door.is_closed()
    }

    fn leave(&self, now: Instant) {
        let waited = now.saturating_duration_since(self.since.get());
        if self.is_busy() || self.announces.get() || waited > LAST_CALL {
            self.decide(Verdict::ShutDown);
        }
    }

    pub fn announces_its_end(&self) {
        self.announces.set(true);
    }

    /// What follows on the connection has no meaning until a request that asks for another protocol is answered.
    pub fn hold(&self) {
        self.held.set(true);
    }

    /// It was answered, and HTTP goes on.
    pub fn resume(&self) {
        self.held.set(false);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Ready when nothing holds what follows, any more.
    pub fn poll_resumed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.held.get() {
            return Poll::Ready(());
        }
        self.reader.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Whether requests are being answered.
    pub fn is_busy(&self) -> bool {
        self.in_flight.get() > 0
    }

    pub fn decide(&self, verdict: Verdict) {
        self.verdict.set(Some(verdict));
        self.changed.notify_one();
    }
}

/// As HTTP/1.1 has it.
impl Interim for Watch {
    fn send(&self, status: StatusCode, headers: HeaderMap) {
        let mut interim = self.interim.borrow_mut();
        let reason = status.canonical_reason().unwrap_or_default();
        interim.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
        for (name, value) in &headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                interim.extend_from_slice(part);
            }
        }
        interim.extend_from_slice(b"\r\n");
        // The connection's task looks what there is to write.
        self.changed.notify_one();
    }
}

pub struct Busy(Rc<Watch>);

impl Busy {
    pub fn is_cut_off(&self) -> bool {
        self.0.is_cut_off()
    }
}

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

    fn limits(header_time: Duration, idle_time: Duration, send: Pace) -> Limits {
        Limits {
            header_bytes: 0,
            header_count: 0,
            uri: 0,
            body: 0,
            header_time,
            idle_time,
            streams: 0,
            receive: Pace { grace: LONG, rate: 0 },
            send,
        }
    }

    #[test]
    fn tells_slow_heads_from_idle_connections() {
        let watches = Watches::default();
        let watch = watches.add(Door::new(0, Arc::default()));
        let decided = |header, idle| {
            watches.sweep(&limits(header, idle, Pace { grace: LONG, rate: 0 }));
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
    fn only_a_client_that_takes_nothing_is_cut_off() {
        let watches = Watches::default();
        let watch = watches.add(Door::new(0, Arc::default()));
        let busy = watch.busy();
        let decided = |grace, rate| {
            watches.sweep(&limits(LONG, LONG, Pace { grace, rate }));
            watch.verdict.take()
        };
        watch.wrote(&Poll::Ready(Ok(10)));
        assert_eq!(decided(Duration::ZERO, 1), None, "it is the upstream that is slow");
        watch.wrote(&Poll::Pending);
        assert_eq!(decided(LONG, 1), None);
        assert!(!busy.is_cut_off());
        // The sweep's clock goes on.
        while clock::advance() <= watch.sending.borrow().end(Pace { grace: Duration::ZERO, rate: 0 }).unwrap()
        {
        }
        assert_eq!(decided(Duration::ZERO, 1), Some(Verdict::SlowReader));
        assert!(busy.is_cut_off());
        watch.wrote(&Poll::Ready(Ok(1)));
        assert_eq!(decided(Duration::ZERO, 1), None, "it takes something");
        let waits = || format!("{:?}", watch.sending.borrow());
        let (before, another) = (waits(), watch.busy());
        assert_eq!(waits(), before, "another request beside it gives it no more time");
        drop((busy, another));
        drop(watch.busy());
        assert_ne!(waits(), before);
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
