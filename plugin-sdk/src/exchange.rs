//! The contract's request and response as values with methods: the fake host has others in their place.

use crate::bindings::plugin::wasmgate::plugin::request::Identity;
use crate::bindings::plugin::wasmgate::plugin::{request, response};
use crate::host::types::{BodyMode, Client, Error, Header, Tls};

/// The request of the phase that runs.
pub struct Request;

/// The response of the phase that runs.
pub struct Response;

macro_rules! methods {
    ($message:ident from $interface:ident { $(fn $name:ident($($argument:ident: $type:ty),*) -> $returned:ty;)* }) => {
        impl $message {
            $(
                #[allow(clippy::wrong_self_convention, reason = "from_upstream is the contract's word")]
                pub fn $name(&self, $($argument: $type),*) -> $returned {
                    $interface::$name($($argument),*)
                }
            )*
        }
    };
}

methods!(Request from request {
    fn method() -> String;
    fn set_method(method: &str) -> Result<(), Error>;
    fn scheme() -> String;
    fn authority() -> String;
    fn set_authority(authority: &str) -> Result<(), Error>;
    fn path_with_query() -> String;
    fn set_path_with_query(target: &str) -> Result<(), Error>;
    fn path_param(name: &str) -> Option<String>;
    fn path_params() -> Vec<(String, String)>;
    fn route() -> String;
    fn header(name: &str) -> Option<Vec<u8>>;
    fn header_all(name: &str) -> Vec<Vec<u8>>;
    fn headers(names: &[&str]) -> Vec<Option<Vec<u8>>>;
    fn headers_copy() -> Vec<Header>;
    fn set_header(name: &str, value: &[u8]) -> Result<(), Error>;
    fn append_header(name: &str, value: &[u8]) -> Result<(), Error>;
    fn remove_header(name: &str) -> Result<bool, Error>;
    fn remove_headers(patterns: &[&str]) -> Result<u32, Error>;
    fn set_answer_headers(headers: &[(&str, &[u8])]) -> Result<(), Error>;
    fn answer_header(name: &str) -> Option<Vec<u8>>;
    fn identify(identity: Identity<'_>) -> Result<(), Error>;
    fn set_body_mode(mode: BodyMode) -> Result<(), Error>;
    fn trailers() -> Vec<Header>;
    fn set_trailer(name: &str, value: &[u8]) -> Result<(), Error>;
    fn remove_trailer(name: &str) -> Result<bool, Error>;
    fn set_upstream(name: &str) -> Result<(), Error>;
    fn client() -> Client;
    fn client_ip() -> String;
    fn is_preflight() -> bool;
    fn tls() -> Option<Tls>;
    fn var(name: &str) -> Option<Vec<u8>>;
    fn set_var(name: &str, value: &[u8]) -> Result<(), Error>;
});

methods!(Response from response {
    fn status() -> u16;
    fn set_status(status: u16) -> Result<(), Error>;
    fn from_upstream() -> bool;
    fn header(name: &str) -> Option<Vec<u8>>;
    fn header_all(name: &str) -> Vec<Vec<u8>>;
    fn headers(names: &[&str]) -> Vec<Option<Vec<u8>>>;
    fn headers_copy() -> Vec<Header>;
    fn set_header(name: &str, value: &[u8]) -> Result<(), Error>;
    fn append_header(name: &str, value: &[u8]) -> Result<(), Error>;
    fn remove_header(name: &str) -> Result<bool, Error>;
    fn set_body_mode(mode: BodyMode) -> Result<(), Error>;
    fn trailers() -> Vec<Header>;
    fn set_trailer(name: &str, value: &[u8]) -> Result<(), Error>;
    fn remove_trailer(name: &str) -> Result<bool, Error>;
});
