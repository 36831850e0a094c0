//! One request and its response in a filter: how phases of the gateway become callbacks of the guest, and what
//! the guest may answer with: go on, wait, keep the body, end the request.

use std::{cell::Cell, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{StatusCode, header};

use super::{
    abi::{Action, DataAction},
    context::{Flaws, Id, Side, Stream},
    imports::maps::Map,
    vm::Vm,
};
use crate::plugin::{
    BodyMode, BodyVerdict, Failure, LocalResponse, Summary, Verdict,
    exchange::{Exchange, Kept, State},
    interrupt::{Interrupt, Ruling},
};

/// How long a filter may keep a request waiting; as long as Envoy lets a stream idle.
const PATIENCE: Duration = Duration::from_secs(300);

/// A filter in its VM.
pub struct Seat {
    pub vm: Rc<Vm>,
    pub root: Id,
    /// Which of the filter's VMs it is.
    pub number: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.vm.is_alive() {
            self.vm.end_root(self.root);
        }
    }
}

/// A stream context; it ends with the request.
pub struct Context {
    pub seat: Rc<Seat>,
    id: Id,
    ended: Cell<bool>,
}

impl Kept for Context {
    fn end(&self, exchange: &mut Exchange) {
        let lent = Lent::new(self, exchange, |stream| stream.log_open = false);
        self.vm().finish_stream(self.id);
        drop(lent);
        self.vm().forget_stream(self.id);
        self.ended.set(true);
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.ended.get() {
            self.vm().finish_stream(self.id);
            self.vm().forget_stream(self.id);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Request,
    Response,
}

impl Direction {
    fn side(self, stream: &mut Stream) -> &mut Side {
        match self {
            Direction::Request => &mut stream.request,
            Direction::Response => &mut stream.response,
        }
    }

    fn has_trailers(self, state: &State) -> Option<u32> {
        let trailers = match self {
            Direction::Request => &state.request_trailers,
            Direction::Response => &state.response_trailers,
        };
        trailers.as_ref().map(|trailers| trailers.len() as u32)
    }
}

impl Context {
    pub fn open(seat: Rc<Seat>, interrupt: Rc<Interrupt>) -> Result<Self, Failure> {
        let id = seat.vm.add_stream(seat.root, interrupt)?;
        Ok(Context { seat, id, ended: Cell::new(false) })
    }

    /// The callback for a head, and waiting until it may go on. `taps`: whether the guest wants bodies.
    pub async fn head(
        &self,
        direction: Direction,
        exchange: &mut Exchange,
        taps: bool,
    ) -> Result<Verdict, Failure> {
        let ends = exchange.ends;
        let headers = count(direction, exchange);
        let ruling = {
            let lent = Lent::new(self, exchange, |stream| {
                stream.response_reached |= direction == Direction::Response;
                let side = direction.side(stream);
                (side.head_open, side.resumed) = (true, false);
            });
            let called = match direction {
                Direction::Request => {
                    self.vm().call_headers(self.id, |exports| &exports.request_headers, (headers, ends))
                }
                Direction::Response => {
                    self.vm().call_headers(self.id, |exports| &exports.response_headers, (headers, ends))
                }
            };
            let pauses = called?.is_some_and(|action| Action::of(action) == Action::Pause);
            let (waits, ruling) = lent.with(|stream| {
                direction.side(stream).pause(pauses);
                stream.head_goes_on(direction)
            });
            match waits {
                false => ruling,
                true => match lent.settled(direction).await? {
                    Some(ruling) => Some(ruling),
                    None => lent.with(|stream| stream.head_goes_on(direction).1),
                },
            }
        };
        match ruling {
            Some(Ruling::Respond(local)) => Ok(Verdict::Respond(local)),
            Some(Ruling::Close) => Ok(Verdict::Close),
            None => {
                exchange.body_mode = (taps && !ends).then(|| mode(direction, exchange));
                Ok(Verdict::Next)
            }
        }
    }

    /// The callbacks for a piece of a body and for the trailers behind the last one.
    pub async fn body(
        &self,
        direction: Direction,
        exchange: &mut Exchange,
        chunk: Bytes,
        end: bool,
        limit: usize,
    ) -> Result<BodyVerdict, Failure> {
        let trailers = direction.has_trailers(exchange).filter(|_| end);
        let lent = Lent::new(self, exchange, |_| {});
        if let Some(ruling) = lent.with(|stream| stream.ruling.take()) {
            return Ok(ended(ruling));
        }
        if chunk.is_empty() && !end {
            // Nothing new: the guest may have let go of what it kept.
            return Ok(lent.pass(direction));
        }
        let is_data = !(chunk.is_empty() && trailers.is_some());
        lent.with(|stream| {
            let side = direction.side(stream);
            (side.body_open, side.trailers_open, side.resumed) = (true, end, false);
            side.push(chunk);
        });
        if is_data && !self.data(&lent, direction, end && trailers.is_none(), limit)? {
            return Ok(ended(Ruling::Respond(too_large(direction))));
        }
        if let Some(count) = trailers {
            self.trailers(&lent, direction, count)?;
        }
        let is_full = lent.with(|stream| {
            let side = direction.side(stream);
            side.paused && side.kept.len() >= limit
        });
        if (end || is_full)
            && let Some(ruling) = lent.settled(direction).await?
        {
            return Ok(ended(ruling));
        }
        if let Some(ruling) = lent.with(|stream| stream.ruling.take()) {
            return Ok(ended(ruling));
        }
        Ok(lent.pass(direction))
    }

    /// False where the guest keeps more than it may.
    fn data(&self, lent: &Lent<'_>, direction: Direction, ends: bool, limit: usize) -> Result<bool, Failure> {
        let size = lent.with(|stream| direction.side(stream).data().len() as u32);
        let parameters = (self.id, size, ends.into());
        let called = match direction {
            Direction::Request => self.vm().call(self.id, |exports| &exports.request_body, parameters),
            Direction::Response => self.vm().call(self.id, |exports| &exports.response_body, parameters),
        };
        let action = called?.map_or(DataAction::Continue, DataAction::of);
        Ok(lent.with(|stream| {
            let side = direction.side(stream);
            side.pause(matches!(action, DataAction::Buffer | DataAction::Watermark));
            if action == DataAction::NoBuffer {
                side.take();
            }
            if side.paused {
                side.keep();
            }
            !(side.paused && action == DataAction::Buffer && side.kept.len() > limit)
        }))
    }

    fn trailers(&self, lent: &Lent<'_>, direction: Direction, count: u32) -> Result<(), Failure> {
        // Of the body, only what is kept can still be changed.
        lent.with(|stream| direction.side(stream).body_open &= direction.side(stream).paused);
        let called = match direction {
            Direction::Request => {
                self.vm().call(self.id, |exports| &exports.request_trailers, (self.id, count))
            }
            Direction::Response => {
                self.vm().call(self.id, |exports| &exports.response_trailers, (self.id, count))
            }
        };
        // Of trailers, there is only one way to go on.
        let pauses = called?.is_some_and(|action| action != 0);
        lent.with(|stream| direction.side(stream).pause(pauses));
        Ok(())
    }

    /// The callback for the log, once all is over.
    pub fn log(&self, exchange: &mut Exchange, summary: &Summary) -> Result<(), Failure> {
        let _lent = Lent::new(self, exchange, |stream| {
            (stream.summary, stream.response_reached) = (Some(summary.clone()), true);
            stream.log_open = true;
            (stream.request.body_open, stream.response.body_open) = (false, false);
        });
        self.vm().call(self.id, |exports| &exports.log, self.id).map(|_| ())
    }

    pub fn vm(&self) -> &Vm {
        &self.seat.vm
    }
}

impl Stream {
    /// Whether a head has to wait; or else, how the stream ends with it, if it does.
    fn head_goes_on(&mut self, direction: Direction) -> (bool, Option<Ruling>) {
        if let Some(ruling) = self.ruling.take() {
            return (false, Some(ruling));
        }
        if direction.side(self).paused {
            return (true, None);
        }
        if let Some(state) = self.state.as_deref_mut() {
            state.reroute |= std::mem::take(&mut self.reroute);
        }
        let side = direction.side(self);
        side.head_open = false;
        (false, side.flaws.are_fatal().then(|| Ruling::Respond(unfit(direction))))
    }
}

impl Side {
    /// What a callback wants, unless it has asked to go on all the same.
    fn pause(&mut self, pauses: bool) {
        self.paused = pauses && !std::mem::take(&mut self.resumed);
    }
}

fn count(direction: Direction, state: &State) -> u32 {
    let flaws = Flaws::default();
    let map = match direction {
        Direction::Request => Some(Map::request(state, &flaws)),
        Direction::Response => Map::response(state, &flaws),
    };
    map.map_or(0, |map| map.len() as u32)
}

/// A length that the guest lets stand is one that it keeps to.
fn mode(direction: Direction, state: &State) -> BodyMode {
    let headers = match direction {
        Direction::Request => Some(&state.request.headers),
        Direction::Response => state.response.as_ref().map(|head| &head.headers),
    };
    match headers.is_some_and(|headers| headers.contains_key(header::CONTENT_LENGTH)) {
        true => BodyMode::Watch,
        false => BodyMode::Stream,
    }
}

fn ended(ruling: Ruling) -> BodyVerdict {
    match ruling {
        Ruling::Respond(local) => BodyVerdict::Respond(local),
        Ruling::Close => BodyVerdict::Close,
    }
}

/// The guest has left a head that cannot be sent.
fn unfit(direction: Direction) -> Box<LocalResponse> {
    let (status, detail) = match direction {
        Direction::Request => (StatusCode::INTERNAL_SERVER_ERROR, "A plugin left no valid request."),
        Direction::Response => (StatusCode::BAD_GATEWAY, "A plugin left no valid response."),
    };
    Box::new(LocalResponse::error(status, "plugin_failed", detail))
}

/// A filter keeps more of a body than limits.body allows.
fn too_large(direction: Direction) -> Box<LocalResponse> {
    Box::new(match direction {
        Direction::Request => {
            LocalResponse::error(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "The body is too long.")
        }
        Direction::Response => LocalResponse::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "response_too_large",
            "The answer is longer than a plugin may buffer.",
        ),
    })
}

/// The exchange in the hands of the VM, until this is dropped; also while the guest lets the request wait.
struct Lent<'a> {
    context: &'a Context,
    exchange: &'a mut Exchange,
}

impl<'a> Lent<'a> {
    fn new(context: &'a Context, exchange: &'a mut Exchange, begin: impl FnOnce(&mut Stream)) -> Self {
        let state = exchange.lend();
        context.vm().with_stream(context.id, |stream| {
            stream.state = state;
            begin(stream);
        });
        Lent { context, exchange }
    }

    fn with<T: Default>(&self, act: impl FnOnce(&mut Stream) -> T) -> T {
        // It is there as long as its context is.
        self.context.vm().with_stream(self.context.id, act).unwrap_or_default()
    }

    /// Waits until the guest lets go on, or ends the stream.
    async fn settled(&self, direction: Direction) -> Result<Option<Ruling>, Failure> {
        loop {
            self.context.vm().check()?;
            let (ruling, paused, wake) = self.with(|stream| {
                let paused = direction.side(stream).paused;
                (stream.ruling.take(), paused, Some(stream.wake.clone()))
            });
            let Some(wake) = wake.filter(|_| ruling.is_none() && paused) else { return Ok(ruling) };
            if tokio::time::timeout(PATIENCE, wake.notified()).await.is_err() {
                return Err(Failure::Deadline);
            }
        }
    }

    /// What goes on: all that is there, or nothing while the guest keeps it.
    fn pass(&self, direction: Direction) -> BodyVerdict {
        self.with(|stream| {
            let side = direction.side(stream);
            let paused = side.paused;
            (side.body_open, side.trailers_open) = (paused, paused && side.trailers_open);
            stream.waits = paused;
            match paused {
                true => BodyVerdict::Hold(stream.wake.clone()),
                false => BodyVerdict::Replace(direction.side(stream).take()),
            }
        })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let state = self.context.vm().with_stream(self.context.id, |stream| stream.state.take());
        if let Some(state) = state.flatten() {
            self.exchange.restore(state);
        }
    }
}
