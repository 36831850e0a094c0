//! Changes of a request that lead it to another route: `x-do: HOW`.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::wish;
use crate::host::{REQUEST_HEADERS, RESPONSE_HEADERS, add, get_property, get_value, replace};

pub struct Routes;

impl Context for Routes {}

impl HttpContext for Routes {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        get_property(&["xds", "route_name"]);
        match wish().as_str() {
            "header" => _ = add(REQUEST_HEADERS, "x-route", b"other"),
            "path" => _ = replace(REQUEST_HEADERS, ":path", b"/other/path"),
            "authority" => _ = replace(REQUEST_HEADERS, ":authority", b"other.test"),
            "nowhere" => _ = replace(REQUEST_HEADERS, ":authority", b"nowhere.test"),
            _ => {}
        }
        get_property(&["xds", "route_name"]);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        get_property(&["xds", "route_name"]);
        get_property(&["xds", "cluster_name"]);
        get_value(RESPONSE_HEADERS, "x-upstream");
        Action::Continue
    }
}
