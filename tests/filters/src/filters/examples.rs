//! The examples of the Rust SDK, written anew from their descriptions.

pub mod grpc_auth_random;
pub mod hello_world;
pub mod http_auth_random;
pub mod http_body;
pub mod http_config;
pub mod http_headers;
