//! proxy-wasm filters that tell all that a host does with them: each callback and each host call with its status is
//! a line of the log. One module holds them all; the root id says which one it is.

#![cfg(target_family = "wasm")]
#![allow(clippy::panic, reason = "to trap is what some filters are for")]

mod filters;
mod host;
mod trace;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|id| Box::new(trace::Root::new(id)));
}}
