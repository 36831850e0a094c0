//! The gateway from outside: the real binary, real sockets, raw bytes.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod admin;
mod cli;
mod drain;
mod envoy;
mod examples;
mod faults;
mod forwarding;
mod handover;
mod http;
mod isolation;
mod languages;
mod limits;
mod migrate;
mod neighbour;
mod nginx;
mod phases;
mod plugins;
mod proxy_wasm;
mod readme;
mod reload;
mod rollout;
mod routing;
mod smuggling;
mod tidy;
mod traces;
