//! Upstreams as one worker sees them: endpoints, the choice between them, the connections kept to
//! them. They know neither routes nor plugins.

pub mod answer;
pub mod balance;
pub mod connect;

use std::{cell::RefCell, sync::Arc};

use balance::RoundRobin;
use connect::Endpoint;
use http::{Request, Response};

use crate::{
    body::Body,
    config::{HostHeader, KeepAlive, Timeouts},
    telemetry::numbers::UpstreamNumbers,
};

/// An upstream of the config. Shared by all workers.
#[derive(Debug, PartialEq)]
pub struct Spec {
    pub name: Arc<str>,
    pub endpoints: Vec<EndpointSpec>,
    pub host: HostHeader,
    pub timeouts: Timeouts,
    pub keep_alive: KeepAlive,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Host and port as one connects to them and as Host names them.
    pub address: Arc<str>,
    pub weight: u16,
}

/// An upstream on one worker.
pub struct Cluster {
    pub spec: Arc<Spec>,
    pub endpoints: Vec<Endpoint>,
    balance: RefCell<RoundRobin>,
    pub numbers: Arc<UpstreamNumbers>,
}

impl Cluster {
    pub fn new(spec: Arc<Spec>, numbers: Arc<UpstreamNumbers>) -> Self {
        let weights = spec.endpoints.iter().map(|endpoint| endpoint.weight);
        let balance = RefCell::new(RoundRobin::new(weights));
        let endpoints = spec.endpoints.iter();
        let endpoints = endpoints.map(|e| Endpoint::new(e.address.clone(), &spec, numbers.clone())).collect();
        Cluster { endpoints, balance, spec, numbers }
    }

    /// The endpoint whose turn it is; none where all weights are 0.
    pub fn pick(&self) -> Option<&Endpoint> {
        let place = self.balance.borrow_mut().next()?;
        self.endpoints.get(place)
    }

    /// Sends a request of the gateway's own, in time for its head. None where there is no endpoint.
    pub async fn call(&self, request: Request<Body>) -> Option<Result<Response<Body>, connect::Error>> {
        let sent = self.pick()?.send(request).await;
        Some(sent.map(|(response, connection)| {
            let started = tokio::time::Instant::now();
            response.map(|body| answer::body(body, connection, &self.spec.timeouts, started))
        }))
    }

    /// The same by HTTP/2, on a connection that requests share.
    pub async fn call_http2(&self, request: Request<Body>) -> Option<Result<Response<Body>, connect::Error>> {
        let sent = self.pick()?.send_http2(request).await;
        Some(sent.map(|response| response.map(Body::from)))
    }
}
