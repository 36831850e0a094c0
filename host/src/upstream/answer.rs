//! The body of an upstream's answer. Its connection is kept only if it comes to its end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, SizeHint};
use tokio::time::Instant;

use super::{Ticket, pool::Connection};
use crate::{
    body::{Body, BodyError, Patience, Polled},
    pace::Pace,
};

/// The ticket of the request, where it has one, is held to the end.
pub fn body(incoming: Body, connection: Connection, ticket: Option<Ticket>, begun: Instant) -> Body {
    if incoming.is_end_stream() {
        connection.release();
        return Body::Empty;
    }
    let (read, total) = connection.times();
    let patience = Patience::new(Pace { grace: read, rate: 0 }, total.map(|total| begun + total));
    Body::boxed(UpstreamBody {
        incoming,
        ended: false,
        patience,
        connection: Some(connection),
        _ticket: ticket,
    })
}

struct UpstreamBody {
    incoming: Body,
    ended: bool,
    patience: Patience,
    connection: Option<Connection>,
    _ticket: Option<Ticket>,
}

impl HttpBody for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        let polled = Pin::new(&mut this.incoming).poll_frame(cx);
        let frame = ready!(this.patience.poll(polled, cx));
        // Nothing comes after trailers, and few ask for it.
        this.ended = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
        if let Some(Err(_)) = frame
            && let Some(connection) = this.connection.take()
        {
            connection.broke_off();
        }
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
