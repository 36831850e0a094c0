//! The language of the end-to-end tests: the real gateway between a scripted upstream and a client
//! that writes raw bytes. It owns processes, sockets and waiting; it must not know what any test proves.
//!
//! Nothing here sleeps to let something happen: what happens later is waited for with
//! [`eventually!`] or a [`Gate`], and every wait ends after [`PATIENCE`].

#![allow(clippy::expect_used, clippy::panic, reason = "a test's language fails by panicking")]

mod build;
mod client;
mod collector;
mod config;
mod difference;
pub mod dns;
mod envoy;
mod faulty;
mod filters;
pub mod frames;
mod gate;
mod gateway;
mod grpc;
mod http2;
mod language;
mod load;
mod log;
mod message;
mod peer;
mod pipe;
mod python;
mod recording;
mod redis;
mod reserved;
mod tls;
mod transcript;
mod upstream;

use std::time::{Duration, Instant};

pub use build::{binary, garbled, guest, module, plugin, version};
pub use client::{Client, get, request};
pub use collector::{Collector, attribute, spans};
pub use config::{before, before_all, fill};
pub use difference::{Accepted, Difference, differences};
pub use envoy::Envoy;
pub use faulty::{Faulty, Mood};
pub use filters::{Destinations, Filter, FilterListener, envoy_config, gateway_config};
pub use gate::Gate;
pub use gateway::{Output, Signal, Successor, TestGateway, kill, run, run_in, run_with};
pub use grpc::{GrpcHealth, GrpcService};
pub use language::Language;
pub use load::{Answer, Load, Loading, p99};
pub use message::{Fields, Head, Reader, Request, Response};
pub use peer::{Haproxy, Nginx, or_skip, peer};
pub use pipe::Pipe;
pub use python::{Python, Served};
pub use recording::{
    Case, Filtering, Lines, Recorder, Recording, Recordings, Step, fence, from_json, to_json,
};
pub use redis::{Redis, redis_cluster, redis_sentinel};
pub use reserved::Reserved;
pub use tls::{Authority, Issued, TlsClient, certificates, client_config};
pub use upstream::{Call, TestUpstream};

/// How long anything may take before it counts as never.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the condition holds; panics when it does not in time.
#[macro_export]
macro_rules! eventually {
    ($condition:expr) => {
        assert!($crate::holds_in_time(|| $condition), "never: {}", stringify!($condition))
    };
    ($condition:expr, $($message:tt)+) => {
        assert!($crate::holds_in_time(|| $condition), $($message)+)
    };
}

/// What [`eventually!`] waits with.
pub fn holds_in_time(mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
