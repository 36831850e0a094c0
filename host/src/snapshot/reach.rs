//! The upstreams of a worker as its filters reach them: those of the newest view, whichever view a filter was
//! made for.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use http::Request;

use crate::{
    body::Body,
    config,
    plugin::services::{CallError, Protocol, Sending, Upstream, Upstreams},
    upstream::{Cluster, pool::Error},
};

pub type Clusters = HashMap<Arc<str>, Rc<Cluster>>;

#[derive(Default)]
pub struct Reach(RefCell<Clusters>);

impl Reach {
    pub fn replace(&self, clusters: Clusters) {
        self.0.replace(clusters);
    }
}

impl Upstreams for Reach {
    fn get(&self, name: &str) -> Option<Rc<dyn Upstream>> {
        let cluster = self.0.borrow().get(name)?.clone();
        Some(Rc::new(Callee(cluster)))
    }
}

struct Callee(Rc<Cluster>);

impl Upstream for Callee {
    fn send(self: Rc<Self>, request: Request<Body>, protocol: Protocol) -> Sending {
        Box::pin(async move {
            let protocol = match protocol {
                Protocol::Configured => self.0.upstream.settings.protocol,
                Protocol::Http2 => config::Protocol::Http2,
            };
            match self.0.call(request, protocol).await {
                Some(Ok(response)) => Ok(response),
                Some(Err(error @ (Error::Connect(_) | Error::ConnectTimeout | Error::Overloaded))) => {
                    Err(CallError::Connect(error.to_string()))
                }
                Some(Err(error @ Error::Protocol(_))) => Err(CallError::Protocol(error.to_string())),
                Some(Err(error)) => Err(CallError::Reset(error.to_string())),
                None => Err(CallError::Connect("there is no endpoint".to_owned())),
            }
        })
    }

    fn endpoints(&self) -> usize {
        self.0.upstream.members().len()
    }
}
