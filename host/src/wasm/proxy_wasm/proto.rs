//! The few protocol buffers that cross the border, as prost reads and writes them.

use prost::Message;

/// envoy.config.core.v3.GrpcService, as far as it names a cluster.
#[derive(Clone, PartialEq, Message)]
struct GrpcService {
    #[prost(message, optional, tag = "1")]
    envoy_grpc: Option<EnvoyGrpc>,
}

#[derive(Clone, PartialEq, Message)]
struct EnvoyGrpc {
    #[prost(string, tag = "1")]
    cluster_name: String,
}

pub fn cluster_of_grpc_service(bytes: &[u8]) -> Option<String> {
    let service = GrpcService::decode(bytes).ok()?.envoy_grpc?;
    (!service.cluster_name.is_empty()).then_some(service.cluster_name)
}

/// Arguments of the foreign function `set_envoy_filter_state`.
#[derive(Clone, PartialEq, Message)]
pub struct SetFilterState {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(string, tag = "2")]
    pub value: String,
    #[prost(int32, tag = "3")]
    pub span: i32,
}

/// Arguments of the foreign function `declare_property`.
#[derive(Clone, PartialEq, Message)]
pub struct DeclareProperty {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bool, tag = "2")]
    pub readonly: bool,
    #[prost(int32, tag = "3")]
    pub kind: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub schema: Vec<u8>,
    #[prost(int32, tag = "5")]
    pub span: i32,
}
