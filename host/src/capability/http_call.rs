//! Requests of plugins to upstreams: what is asked, what comes of it, and the way to the worker that has the
//! connections. Who answers is not known here.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use tokio::sync::{mpsc, oneshot};

#[derive(Debug)]
pub struct Outgoing {
    pub upstream: String,
    /// Without Host, where it is to be the endpoint's.
    pub request: Request<Bytes>,
    /// Until the last byte of the answer.
    pub timeout: Duration,
    /// Longest body of the answer.
    pub max_body: usize,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No upstream of that name, or none that may be called.
    Unknown,
    /// What cannot be sent.
    Invalid,
    TimedOut,
    /// No endpoint, no connection, or the upstream is spared.
    Unreachable,
    /// The answer broke off, or is no HTTP.
    Broken,
    TooLarge,
    /// Too many are under way.
    Exhausted,
    /// Another answer than 2xx, where only those count.
    Refused,
}

impl Answer {
    /// Where it is 2xx.
    pub fn successful(self) -> Outcome {
        if self.status.is_success() { Ok(self) } else { Err(Failure::Refused) }
    }

    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        let fields = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
        self.body.len() + fields.sum::<usize>()
    }
}

pub type Outcome = Result<Answer, Failure>;

/// The way to the worker.
#[derive(Clone)]
pub struct Caller(mpsc::UnboundedSender<Job>);

/// A call for the worker to make.
pub struct Job {
    pub call: Outgoing,
    pub to: Asker,
}

/// Who is told of the outcome.
pub enum Asker {
    /// Whoever lets go of the other end wants it no more.
    One(oneshot::Sender<Outcome>),
    /// The call goes on whoever waits.
    All(Box<dyn FnOnce(Outcome) + Send>),
}

impl Caller {
    pub fn new() -> (Caller, mpsc::UnboundedReceiver<Job>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Caller(sender), receiver)
    }

    /// The call begins now; dropping what is returned ends it.
    pub fn call(&self, call: Outgoing) -> oneshot::Receiver<Outcome> {
        let (to, outcome) = oneshot::channel();
        self.hand_over(Job { call, to: Asker::One(to) });
        outcome
    }

    /// The call begins now, and comes to its end.
    pub fn call_for(&self, call: Outgoing, to: impl FnOnce(Outcome) + Send + 'static) {
        self.hand_over(Job { call, to: Asker::All(Box::new(to)) });
    }

    fn hand_over(&self, job: Job) {
        // A worker that has ended drops it, which its asker sees.
        let _ = self.0.send(job);
    }
}
