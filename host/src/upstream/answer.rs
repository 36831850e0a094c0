//! The body of an upstream's answer. Its connection is kept only if it comes to its end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::connect::Connection;
use crate::{
    body::{Body, BodyError, Patience, Polled, from_hyper},
    config::Timeouts,
};

pub fn body(incoming: Incoming, connection: Connection, timeouts: &Timeouts, started: Instant) -> Body {
    if incoming.is_end_stream() {
        connection.release();
        return Body::Empty;
    }
    let deadline = timeouts.total.map(|total| started + total);
    let patience = Patience::new(Some(timeouts.read), deadline);
    Body::boxed(UpstreamBody { incoming, ended: false, patience, connection: Some(connection) })
}

struct UpstreamBody {
    incoming: Incoming,
    ended: bool,
    patience: Patience,
    connection: Option<Connection>,
}

impl HttpBody for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        let polled = from_hyper(Pin::new(&mut this.incoming).poll_frame(cx));
        let frame = ready!(this.patience.poll(polled, cx));
        this.ended = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && (self.ended || self.incoming.is_end_stream())
        {
            connection.release();
        }
    }
}
