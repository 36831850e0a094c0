//! What holds for whatever bytes a client sends. Each module has one such check, written against readers of its own that
//! are slow and plain; here they get bytes from generators, in tests/fuzz from a fuzzer.
//!
//! The host's files are compiled into this package as they are: they are pure, and the fuzzer needs nothing else of it.

#![allow(clippy::expect_used, clippy::panic, reason = "a check fails by panicking")]

#[path = "../../../host/src/server/frames.rs"]
pub mod frames;
#[path = "../../../host/src/grpc.rs"]
pub mod grpc;
#[path = "../../../host/src/server/guard.rs"]
pub mod guard;
#[path = "../../../host/src/proxy/headers.rs"]
pub mod headers;
#[path = "../../../host/src/server/proxy_protocol.rs"]
pub mod proxy_protocol;
#[path = "../../../host/src/proxy/target.rs"]
pub mod target;

pub mod fields;
pub mod framing;
pub mod paths;
pub mod proxied;
pub mod streams;
pub mod targets;
