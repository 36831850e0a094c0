//! The few protocol buffers that cross the border, as prost reads and writes them.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::Value as Json;

use crate::config;

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

/// The kind of a property that is text.
pub const TEXT: i32 = 1;

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

/// Arguments of the foreign function `verify_signature`.
#[derive(Clone, PartialEq, Message)]
pub struct VerifySignatureArguments {
    #[prost(string, tag = "1")]
    pub hash_function: String,
    /// In DER.
    #[prost(bytes = "vec", tag = "2")]
    pub public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub text: Vec<u8>,
    #[prost(string, tag = "5")]
    pub public_key_pem: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct VerifySignatureResult {
    #[prost(bool, tag = "1")]
    pub result: bool,
    #[prost(string, tag = "2")]
    pub error: String,
}

/// Arguments of the foreign function `sign`.
#[derive(Clone, PartialEq, Message)]
pub struct SignArguments {
    #[prost(string, tag = "1")]
    pub hash_function: String,
    /// In DER.
    #[prost(bytes = "vec", tag = "2")]
    pub private_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub text: Vec<u8>,
    #[prost(string, tag = "4")]
    pub private_key_pem: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SignResult {
    #[prost(bool, tag = "1")]
    pub result: bool,
    #[prost(bytes = "vec", tag = "2")]
    pub signature: Vec<u8>,
    #[prost(string, tag = "3")]
    pub error: String,
}

/// envoy.config.core.v3.Node.
#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    cluster: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<Struct>,
}

pub fn node(node: &config::Node) -> Vec<u8> {
    let config::Node { id, cluster, metadata } = node;
    let metadata = (!metadata.is_empty()).then(|| fields(metadata));
    Node { id: id.clone(), cluster: cluster.clone(), metadata }.encode_to_vec()
}

fn fields(map: &serde_json::Map<String, Json>) -> Struct {
    let fields: BTreeMap<_, _> = map.iter().map(|(key, json)| (key.clone(), value(json))).collect();
    Struct { fields }
}

fn value(json: &Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(values) => Kind::ListValue(ListValue { values: values.iter().map(value).collect() }),
        Json::Object(map) => Kind::StructValue(fields(map)),
    };
    Value { kind: Some(kind) }
}
