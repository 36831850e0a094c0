//! What a filter has besides the requests that pass it: upstreams that it may call, and tasks that
//! outlive its calls. Who provides them is not its concern.

use std::{fmt, pin::Pin, rc::Rc};

use http::{Request, Response};
use tokio::sync::mpsc;

use crate::body::Body;

/// The services of one worker.
#[derive(Clone)]
pub struct Services {
    pub upstreams: Rc<dyn Upstreams>,
    pub tasks: Tasks,
}

/// The upstreams that the worker has now.
pub trait Upstreams {
    fn get(&self, name: &str) -> Option<Rc<dyn Upstream>>;
}

/// One upstream: endpoints, balance, connections.
pub trait Upstream {
    /// Sends to the endpoint whose turn it is, and comes back with the head of the answer.
    fn send(self: Rc<Self>, request: Request<Body>, protocol: Protocol) -> Sending;

    /// How many endpoints it has.
    fn endpoints(&self) -> usize;
}

pub type Sending = Pin<Box<dyn Future<Output = Result<Response<Body>, CallError>>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// That of the upstream.
    Configured,
    Http2,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// No endpoint, or no connection to it.
    Connect(String),
    /// The connection ended before the answer.
    Reset(String),
    /// What came is no HTTP.
    Protocol(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Connect(text) | CallError::Reset(text) | CallError::Protocol(text) => {
                f.write_str(text)
            }
        }
    }
}

/// Where tasks are handed to the worker that runs them; those that are left end with it.
#[derive(Clone)]
pub struct Tasks(mpsc::UnboundedSender<Task>);

pub type Task = Pin<Box<dyn Future<Output = ()>>>;

impl Tasks {
    pub fn new() -> (Tasks, mpsc::UnboundedReceiver<Task>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Tasks(sender), receiver)
    }

    /// Whether anybody runs them.
    pub fn run(&self) -> bool {
        !self.0.is_closed()
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // Nobody listens any more only when the worker has ended.
        let _ = self.0.send(Box::pin(task));
    }
}

impl Services {
    /// For filters that no worker serves with: no upstream answers them, and no task runs.
    pub fn none() -> Self {
        Services { upstreams: Rc::new(Nobody), tasks: Tasks::new().0 }
    }
}

/// Every upstream is there, and never answers.
struct Nobody;

impl Upstreams for Nobody {
    fn get(&self, _: &str) -> Option<Rc<dyn Upstream>> {
        Some(Rc::new(Nobody))
    }
}

impl Upstream for Nobody {
    fn send(self: Rc<Self>, _: Request<Body>, _: Protocol) -> Sending {
        Box::pin(std::future::pending())
    }

    fn endpoints(&self) -> usize {
        0
    }
}
