//! Answers before the last one (1xx; RFC 9110, section 15.2), from where they are read to who waits for the last one.
//! Both are on one worker, which the library's callback may not know.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use http::{HeaderMap, Request, StatusCode};

use crate::body::Body;

type Hear = Rc<dyn Fn(StatusCode, HeaderMap)>;

thread_local! {
    static HEARING: RefCell<HashMap<u64, Hear>> = RefCell::default();
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// Somebody hears what is told until this is dropped.
pub struct Hearing(u64);

impl Drop for Hearing {
    fn drop(&mut self) {
        HEARING.with_borrow_mut(|hearing| hearing.remove(&self.0));
    }
}

/// Who is to be told; an extension of a request.
#[derive(Clone, Copy)]
pub struct Listener(u64);

impl Listener {
    pub fn of(request: &Request<Body>) -> Option<Listener> {
        request.extensions().get().copied()
    }

    /// Status 100 is for whoever has sent the request, and 101 is no answer before the last one.
    pub fn tell(self, status: StatusCode, headers: &HeaderMap) {
        if matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let hear = HEARING.with_borrow(|hearing| hearing.get(&self.0).cloned());
        if let Some(hear) = hear {
            hear(status, headers.clone());
        }
    }
}

/// From now on `hear` is called with every answer before the last one to this request.
pub fn hear(request: &mut Request<Body>, hear: Hear) -> Hearing {
    let id = NEXT.replace(NEXT.get() + 1);
    HEARING.with_borrow_mut(|hearing| hearing.insert(id, hear));
    request.extensions_mut().insert(Listener(id));
    hyper::ext::on_informational(request, move |answer| {
        Listener(id).tell(answer.status(), answer.headers());
    });
    Hearing(id)
}
