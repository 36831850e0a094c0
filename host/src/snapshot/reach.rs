//! The upstreams of a worker as its filters reach them: those of the newest view, whichever view a filter was
//! made for.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use http::Request;

use crate::{
    body::Body,
    config,
    plugin::services::{CallError, Protocol, Sending, Upstream, Upstreams},
    upstream::{Cluster, Uncalled, pool::Error},
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
            self.0.call(request, protocol).await.map_err(|uncalled| match uncalled {
                Uncalled::Refused(_) => CallError::Connect("the upstream is spared".to_owned()),
                Uncalled::NoEndpoint => CallError::Connect("there is no endpoint".to_owned()),
                Uncalled::Failed(error @ (Error::Connect(_) | Error::ConnectTimeout | Error::Overloaded)) => {
                    CallError::Connect(error.to_string())
                }
                Uncalled::Failed(error @ Error::Protocol(_)) => CallError::Protocol(error.to_string()),
                Uncalled::Failed(error) => CallError::Reset(error.to_string()),
            })
        })
    }

    fn endpoints(&self) -> usize {
        self.0.upstream.members().len()
    }
}
