//! The gateway from outside: the real binary, real sockets, raw bytes.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod admin;
mod balance;
mod breaker;
mod calls;
mod chaos;
mod cli;
mod crypto;
mod dns;
mod drain;
mod envoy;
mod examples;
mod faults;
mod forwarding;
mod grpc;
mod handover;
mod health;
mod hints;
mod http;
mod http2;
mod isolation;
mod languages;
mod limits;
mod migrate;
mod neighbour;
mod nginx;
mod overload;
mod phases;
mod plugins;
mod proxy_protocol;
mod proxy_wasm;
mod readme;
mod reload;
mod retry;
mod rollout;
mod routing;
mod smuggling;
mod splits;
mod tidy;
mod tls;
mod traces;
mod unix;
mod upgrade;
mod upstream_http2;
mod web;
