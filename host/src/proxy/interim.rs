//! Answers before the last one on their way to the client: 103 (RFC 8297), and whatever else an upstream has to say.

use std::rc::Rc;

use http::{HeaderMap, Request, StatusCode, header};

use super::{headers::Present, journey::Journey};
use crate::{
    body::Body,
    upstream::hints::{self, Hearing},
};

/// A client that takes answers before the last one.
pub trait Interim {
    fn send(&self, status: StatusCode, headers: HeaderMap);
}

/// Passes them on while the returned value is there, where the route wants that.
pub fn pass(journey: &Journey, request: &mut Request<Body>) -> Option<Hearing> {
    let client = journey.interim.get()?.clone();
    let pass = move |status, mut headers: HeaderMap| {
        Present::of(&headers).strip_hop_by_hop(&mut headers);
        headers.remove(header::CONTENT_LENGTH);
        client.send(status, headers);
    };
    Some(hints::hear(request, Rc::new(pass)))
}
