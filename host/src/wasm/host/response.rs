//! `response`: the response of the phase that runs.

use http::HeaderMap;
use wasmtime::{Error, Result};

use super::{
    bindings::wasmgate::plugin::{
        response,
        types::{BodyMode, Header},
    },
    message::{Answer, all, body_mode, copy, first},
};
use crate::{
    plugin::{
        exchange::{Phase, ResponseHead},
        headers::{self, Refusal},
    },
    wasm::store::Host,
};

impl Host {
    fn response(&mut self) -> Result<&ResponseHead> {
        let response = self.exchange()?.response.as_ref();
        response.ok_or_else(|| Error::msg("there is no response in this phase"))
    }

    fn change_response<T>(&mut self, change: impl FnOnce(&mut HeaderMap) -> Result<T, Refusal>) -> Answer<T> {
        self.change(|state| change(&mut state.response_mut()?.headers))
    }
}

impl response::Host for Host {
    fn status(&mut self) -> Result<u16> {
        Ok(self.response()?.status.as_u16())
    }

    fn set_status(&mut self, status: u16) -> Answer<()> {
        self.change(|state| state.set_status(status))
    }

    fn from_upstream(&mut self) -> Result<bool> {
        Ok(self.response()?.from_upstream())
    }

    fn header(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        Ok(first(&self.response()?.headers, &name))
    }

    fn header_all(&mut self, name: String) -> Result<Vec<Vec<u8>>> {
        Ok(all(&self.response()?.headers, &name))
    }

    fn headers(&mut self, names: Vec<String>) -> Result<Vec<Option<Vec<u8>>>> {
        let map = &self.response()?.headers;
        Ok(names.iter().map(|name| first(map, name)).collect())
    }

    fn headers_copy(&mut self) -> Result<Vec<Header>> {
        Ok(copy(&self.response()?.headers))
    }

    fn set_header(&mut self, name: String, value: Vec<u8>) -> Answer<()> {
        self.change_response(|map| headers::set(map, &name, value))
    }

    fn append_header(&mut self, name: String, value: Vec<u8>) -> Answer<()> {
        self.change_response(|map| headers::append(map, &name, value))
    }

    fn remove_header(&mut self, name: String) -> Answer<bool> {
        self.change_response(|map| headers::remove(map, &name))
    }

    fn set_body_mode(&mut self, mode: BodyMode) -> Answer<()> {
        let mode = body_mode(mode, &self.plugin.limits);
        self.change(|state| state.set_body_mode(Phase::Response, mode))
    }

    fn trailers(&mut self) -> Result<Vec<Header>> {
        Ok(self.exchange()?.response_trailers.as_deref().map(copy).unwrap_or_default())
    }

    fn set_trailer(&mut self, name: String, value: Vec<u8>) -> Answer<()> {
        self.change(|state| headers::set(state.response_trailers_mut()?, &name, value))
    }

    fn remove_trailer(&mut self, name: String) -> Answer<bool> {
        self.change(|state| headers::remove(state.response_trailers_mut()?, &name))
    }
}
