//! A collector of traces: the services of OpenTelemetry's own protocol package.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value,
    trace::v1::Span,
};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::{TestUpstream, http2};

/// Takes spans over gRPC until the test process ends.
pub struct Collector {
    address: SocketAddr,
    taken: Taken,
}

#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Collector {
    pub fn start() -> Collector {
        let taken = Taken::default();
        let service = TraceServiceServer::new(taken.clone());
        Collector { address: http2::serve(TowerToHyperService::new(service)), taken }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was sent until now.
    pub fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        self.taken.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same of an upstream that takes them over HTTP.
    pub fn requests_of(upstream: &TestUpstream) -> Vec<ExportTraceServiceRequest> {
        let decode = |body: Vec<u8>| ExportTraceServiceRequest::decode(&*body).expect("protobuf");
        upstream.requests().into_iter().map(|request| decode(request.body)).collect()
    }
}

type Answer<'a> =
    Pin<Box<dyn Future<Output = Result<Response<ExportTraceServiceResponse>, Status>> + Send + 'a>>;

impl TraceService for Taken {
    fn export<'a, 'b>(&'a self, request: Request<ExportTraceServiceRequest>) -> Answer<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request.into_inner());
            Ok(Response::new(ExportTraceServiceResponse::default()))
        })
    }
}

/// All spans of these requests.
pub fn spans(requests: &[ExportTraceServiceRequest]) -> Vec<Span> {
    let resources = requests.iter().flat_map(|request| &request.resource_spans);
    resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
}

/// An attribute as text; empty where there is none.
pub fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()).and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}
