//! What wit-bindgen makes of the plugin contract: one module per world, so that a component
//! exports just the phases it implements. Knows nothing of the SDK's own types.

#![allow(clippy::all)]

/// The host's services and the lifecycle that every plugin exports.
pub mod plugin {
    wit_bindgen::generate!({
        world: "plugin",
        path: "../wit/v0.1",
        ownership: Borrowing { duplicate_if_necessary: false },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
        disable_run_ctors_once_workaround: true,
    });
}

macro_rules! phase {
    ($module:ident, $world:literal, $export:literal) => {
        pub mod $module {
            wit_bindgen::generate!({
                world: $world,
                path: "../wit/v0.1",
                pub_export_macro: true,
                export_macro_name: $export,
                disable_run_ctors_once_workaround: true,
                with: {
                    "wasmgate:plugin/types@0.1.0": crate::bindings::plugin::wasmgate::plugin::types,
                    "wasmgate:plugin/request@0.1.0": crate::bindings::plugin::wasmgate::plugin::request,
                    "wasmgate:plugin/response@0.1.0": crate::bindings::plugin::wasmgate::plugin::response,
                    "wasmgate:plugin/outcome@0.1.0": crate::bindings::plugin::wasmgate::plugin::outcome,
                    "wasmgate:plugin/audit@0.1.0": crate::bindings::plugin::wasmgate::plugin::audit,
                    "wasmgate:plugin/log@0.1.0": crate::bindings::plugin::wasmgate::plugin::log,
                    "wasmgate:plugin/metrics@0.1.0": crate::bindings::plugin::wasmgate::plugin::metrics,
                    "wasmgate:plugin/counters@0.1.0": crate::bindings::plugin::wasmgate::plugin::counters,
                    "wasmgate:plugin/key-value@0.1.0": crate::bindings::plugin::wasmgate::plugin::key_value,
                    "wasmgate:plugin/clock@0.1.0": crate::bindings::plugin::wasmgate::plugin::clock,
                    "wasmgate:plugin/random@0.1.0": crate::bindings::plugin::wasmgate::plugin::random,
                    "wasmgate:plugin/http-call@0.1.0": crate::bindings::plugin::wasmgate::plugin::http_call,
                    "wasmgate:plugin/crypto@0.1.0": crate::bindings::plugin::wasmgate::plugin::crypto,
                    "wasmgate:plugin/rate-limits@0.1.0": crate::bindings::plugin::wasmgate::plugin::rate_limits,
                    "wasmgate:plugin/secrets@0.1.0": crate::bindings::plugin::wasmgate::plugin::secrets,
                    "wasmgate:plugin/networks@0.1.0": crate::bindings::plugin::wasmgate::plugin::networks,
                    "wasmgate:plugin/consumers@0.1.0": crate::bindings::plugin::wasmgate::plugin::consumers,
                },
            });
        }
    };
}

phase!(request, "with-request", "export_request");
phase!(request_body, "with-request-body", "export_request_body");
phase!(response, "with-response", "export_response");
phase!(response_body, "with-response-body", "export_response_body");
phase!(log, "with-log", "export_log");
