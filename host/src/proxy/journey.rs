//! One request from its head to the last byte of its answer: who it belongs to, what happened to
//! it. Whatever ends it, the end is told exactly once, when the last owner lets go of it.

use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Closed,
    admission::{Admission, find_route},
    error::{self, ProxyError},
    interim::Interim,
    tunnel::Agreed,
};
use crate::{
    body::Body,
    plugin::{
        LocalResponse, Summary,
        chain::Chain,
        exchange::{Exchange, Phase, ResponseHead, State},
        interrupt::Interrupt,
        services::Tasks,
    },
    snapshot::{Route, RouteSpec, Snapshot, View},
    sync::{Mutex, MutexGuard},
    telemetry::access_log::Entry,
    upstream::Cluster,
};

/// Status in log and metrics where the client left before an answer (nginx's number).
const CLIENT_CLOSED: u16 = 499;

pub struct Journey {
    pub started: Instant,
    pub bytes_in: Cell<u64>,
    pub bytes_out: Cell<u64>,
    /// Trailers of the answer find somebody who reads them.
    pub accepts_trailers: Cell<bool>,
    /// What it asks to go on in.
    pub upgrade: Option<HeaderValue>,
    /// When the request's body last moved on; none while more of it is waited for from the client.
    pub upload: Cell<Option<Instant>>,
    view: Rc<View>,
    /// Place in the view's routes: whose plugins it passes and where it is counted.
    route: Option<usize>,
    /// The route whose upstream and path it gets, where a plugin led it to another.
    onward: Cell<Option<usize>>,
    door: u32,
    /// A mutex, because a streamed body passes its plugins while other phases run: phases of one
    /// request never run at the same time.
    exchange: Mutex<Exchange>,
    /// Sent to the client; none until the head of the answer is.
    status: Cell<Option<u16>>,
    /// Why the gateway or a plugin answered, or why the answer broke off.
    code: RefCell<Option<Cow<'static, str>>>,
    /// Where the upstream goes on in another protocol.
    pub agreed: RefCell<Option<Agreed>>,
    /// The client, where it is to get answers before the last one.
    pub interim: OnceCell<Rc<dyn Interim>>,
    /// What a body was cut short by.
    cut_short: RefCell<Option<ProxyError>>,
    journal: Journal,
}

/// Where ended requests go whose plugins have a log phase.
#[derive(Clone)]
pub struct Journal(Rc<mpsc::UnboundedSender<Ended>>);

/// A request that is over, for the log phase of its plugins.
pub struct Ended {
    view: Rc<View>,
    route: Option<usize>,
    exchange: Exchange,
    summary: Summary,
}

impl Journal {
    pub fn new() -> (Journal, mpsc::UnboundedReceiver<Ended>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Journal(Rc::new(sender)), receiver)
    }
}

impl Ended {
    /// Runs the log phase. Its plugins may read a response also where the client left before any.
    pub async fn log(mut self) {
        self.exchange.phase = Phase::Log;
        self.exchange.response.get_or_insert_with(|| ResponseHead {
            status: StatusCode::from_u16(self.summary.status).unwrap_or_default(),
            headers: HeaderMap::new(),
            local: Some(Cow::Borrowed("")),
        });
        let route = self.route.map_or(&self.view.unmatched, |place| &self.view.routes[place]);
        route.chain.log(&mut self.exchange, &self.summary).await;
        finish_trace(&self.view.snapshot, &mut self.exchange, &self.summary);
    }
}

impl Journey {
    pub fn begin(
        view: Rc<View>,
        journal: &Journal,
        door: u32,
        mut admission: Admission,
        client: &Rc<dyn Interim>,
    ) -> (Rc<Journey>, Option<ProxyError>) {
        if let Some(tracer) = &view.snapshot.tracer {
            let trace = tracer.begin(&mut admission.state.request.headers);
            admission.state.trace = Some(trace);
        }
        let takes_interim = admission.state.request.version >= Version::HTTP_11;
        let journey = Journey {
            started: admission.state.begun,
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            accepts_trailers: Cell::new(admission.accepts_trailers),
            upgrade: admission.upgrade,
            upload: Cell::new(None),
            view,
            route: admission.route,
            onward: Cell::new(None),
            door,
            exchange: Mutex::new(Exchange::new(admission.state)),
            status: Cell::new(None),
            code: RefCell::new(None),
            agreed: RefCell::new(None),
            interim: OnceCell::new(),
            cut_short: RefCell::new(None),
            journal: journal.clone(),
        };
        journey.route().numbers.begun.add(1);
        // Clients of HTTP/1.0 know of none (RFC 9110, section 15.2).
        if takes_interim && journey.route_spec().is_some_and(|route| route.early_hints) {
            let _ = journey.interim.set(client.clone());
        }
        (Rc::new(journey), admission.refused)
    }

    pub fn route(&self) -> &Route {
        self.route.map_or(&self.view.unmatched, |place| &self.view.routes[place])
    }

    pub fn chain(&self) -> &Chain {
        &self.route().chain
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.view.snapshot
    }

    /// The route as the snapshot has it; none where nothing matched.
    pub fn route_spec(&self) -> Option<&RouteSpec> {
        self.onward.get().or(self.route).map(|place| &self.view.snapshot.routes[place])
    }

    /// Looks the route up again, for a head that a plugin has changed; false where there is none.
    pub fn reroute(&self, state: &mut State) -> bool {
        if let Some(target) = state.request.send_target.take() {
            state.request.target = target;
        }
        if let Some(authority) = state.request.send_authority.clone() {
            state.request.authority = authority;
        }
        self.onward.set(find_route(self.snapshot(), self.door, state));
        self.onward.get().is_some()
    }

    pub async fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().await
    }

    /// The route whose upstream it gets.
    pub fn onward(&self) -> &Route {
        let onward = self.onward.get().map(|place| &self.view.routes[place]);
        onward.unwrap_or(self.route())
    }

    pub fn cluster(&self, name: &str) -> Option<&Rc<Cluster>> {
        self.view.cluster(name)
    }

    pub fn tasks(&self) -> &Tasks {
        self.view.tasks()
    }

    /// The way by which plugins end the request while it waits for its upstream.
    pub async fn interrupt(&self) -> Option<Rc<Interrupt>> {
        self.exchange().await.interrupted()
    }

    /// A plugin ended the connection.
    pub fn closed(&self) -> Closed {
        self.broke_off("plugin_closed");
        Closed
    }

    /// A body on its way was cut short: it broke off, or a plugin answered or closed.
    pub fn cut(&self, why: ProxyError) {
        *self.cut_short.borrow_mut() = Some(why);
    }

    pub fn cut_short(&self) -> Option<ProxyError> {
        self.cut_short.borrow_mut().take()
    }

    /// Why the answer ended before its end.
    pub fn broke_off(&self, code: &'static str) {
        *self.code.borrow_mut() = Some(Cow::Borrowed(code));
    }

    /// Makes a local answer the response of the exchange.
    pub fn write_local(&self, exchange: &mut Exchange, local: LocalResponse) -> Body {
        *self.code.borrow_mut() = Some(local.code.clone());
        let (head, body) = error::render(local, exchange);
        exchange.response = Some(head);
        body
    }

    /// The head to send. It stays in the exchange where a later phase may read it.
    pub async fn take_response_head(&self, keep: bool) -> (ResponseHead, Method) {
        let mut exchange = self.exchange().await;
        let method = exchange.request.method.clone();
        let head = match exchange.response.take() {
            Some(head) => head,
            // No way leads here without a response; an empty 500 is better than a panic.
            None => ResponseHead {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                headers: Default::default(),
                local: Some(Cow::Borrowed("")),
            },
        };
        if keep || self.chain().has_log() {
            exchange.response = Some(ResponseHead {
                status: head.status,
                headers: head.headers.clone(),
                local: head.local.clone(),
            });
        }
        (head, method)
    }

    pub fn sent(&self, status: StatusCode) {
        self.status.set(Some(status.as_u16()));
    }
}

impl Drop for Journey {
    fn drop(&mut self) {
        let exchange = self.exchange.get_mut();
        let (upstream, endpoint) = exchange.asked.clone().unzip();
        let status = self.status.get();
        let code = self.code.get_mut().take();
        let summary = Summary {
            status: status.unwrap_or(CLIENT_CLOSED),
            code: code.or(status.is_none().then_some(Cow::Borrowed("client_closed"))),
            duration: self.started.elapsed(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            upstream,
            endpoint,
        };
        if let Some(trace) = &mut exchange.trace {
            // What is under way now was cut off.
            let why = || summary.code.as_deref().map(str::to_owned);
            trace.end_call(why());
            trace.cut_attempts(why);
        }
        let method = exchange.request.method.clone();
        let (status, reason) = (summary.status, summary.code.as_ref());
        self.route().numbers.ended(&method, status, reason, summary.duration);
        if let Some(log) = &self.view.snapshot.access_log {
            log.write(entry(self.exchange.get_mut(), &summary));
        }
        if self.chain().has_log() {
            let Some(exchange) = self.exchange.get_mut().take() else { return };
            let (view, route) = (self.view.clone(), self.route);
            // Nobody listens any more only when the worker has ended.
            let _ = self.journal.0.send(Ended { view, route, exchange, summary });
        } else {
            finish_trace(&self.view.snapshot, self.exchange.get_mut(), &summary);
        }
    }
}

/// After the last plugin, whose call is part of it.
fn finish_trace(snapshot: &Snapshot, exchange: &mut Exchange, summary: &Summary) {
    let Some(tracer) = &snapshot.tracer else { return };
    if let Some(trace) = exchange.trace.take_if(|trace| trace.recorded) {
        tracer.finish(trace, entry(exchange, summary));
    }
}

fn entry(exchange: &Exchange, summary: &Summary) -> Box<Entry> {
    let request = &exchange.request;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Box::new(Entry {
        time: SystemTime::now().checked_sub(summary.duration).unwrap_or(SystemTime::UNIX_EPOCH),
        client: exchange.client_ip,
        method: request.method.clone(),
        authority: request.authority.to_string(),
        target: request.target.clone(),
        version: request.version,
        status: summary.status,
        code: summary.code.clone(),
        route: exchange.route.clone(),
        upstream: summary.upstream.clone(),
        endpoint: summary.endpoint.clone(),
        attempts: exchange.attempts,
        duration: Duration::max(summary.duration, Duration::ZERO),
        bytes_in: summary.bytes_in,
        bytes_out: summary.bytes_out,
        user_agent: request.headers.get(header::USER_AGENT).cloned(),
        referer: request.headers.get(header::REFERER).cloned(),
        request_id: exchange.var("request-id").map(text),
        consumer: exchange.var("consumer").map(text),
        trace: exchange.trace.as_ref().map(|trace| trace.id),
    })
}
