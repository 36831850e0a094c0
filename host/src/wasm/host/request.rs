//! `request`: the request of the phase that runs.

use http::HeaderMap;
use wasmtime::Result;

use super::{
    bindings::wasmgate::plugin::{
        request,
        types::{BodyMode, Client, Header, Tls},
    },
    message::{Answer, all, body_mode, copy, first},
};
use crate::{
    plugin::{
        Identity,
        exchange::{Phase, RequestHead},
        headers::{self, Refusal},
    },
    wasm::store::Host,
};

impl Host {
    fn request(&mut self) -> Result<&RequestHead> {
        Ok(&self.exchange()?.request)
    }

    fn change_request<T>(&mut self, change: impl FnOnce(&mut HeaderMap) -> Result<T, Refusal>) -> Answer<T> {
        self.change(|state| change(&mut state.request_mut()?.headers))
    }
}

impl request::Host for Host {
    fn method(&mut self) -> Result<String> {
        Ok(self.request()?.method.to_string())
    }

    fn set_method(&mut self, method: String) -> Answer<()> {
        self.change(|state| state.set_method(&method))
    }

    fn scheme(&mut self) -> Result<String> {
        Ok(self.exchange()?.scheme().to_owned())
    }

    fn authority(&mut self) -> Result<String> {
        Ok(self.request()?.authority.as_str().to_owned())
    }

    fn set_authority(&mut self, authority: String) -> Answer<()> {
        self.change(|state| state.set_authority(&authority))
    }

    fn path_with_query(&mut self) -> Result<String> {
        Ok(self.request()?.current_target().as_str().to_owned())
    }

    fn set_path_with_query(&mut self, target: String) -> Answer<()> {
        self.change(|state| state.set_target(&target))
    }

    fn path_param(&mut self, name: String) -> Result<Option<String>> {
        Ok(self.exchange()?.param(&name).map(str::to_owned))
    }

    fn path_params(&mut self) -> Result<Vec<(String, String)>> {
        let params = self.exchange()?.params();
        Ok(params.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn route(&mut self) -> Result<String> {
        Ok(self.exchange()?.route.to_string())
    }

    fn header(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        Ok(first(&self.request()?.headers, &name))
    }

    fn header_all(&mut self, name: String) -> Result<Vec<Vec<u8>>> {
        Ok(all(&self.request()?.headers, &name))
    }

    fn headers(&mut self, names: Vec<String>) -> Result<Vec<Option<Vec<u8>>>> {
        let map = &self.request()?.headers;
        Ok(names.iter().map(|name| first(map, name)).collect())
    }

    fn headers_copy(&mut self) -> Result<Vec<Header>> {
        Ok(copy(&self.request()?.headers))
    }

    fn set_header(&mut self, name: String, value: Vec<u8>) -> Answer<()> {
        self.change_request(|map| headers::set(map, &name, value))
    }

    fn append_header(&mut self, name: String, value: Vec<u8>) -> Answer<()> {
        self.change_request(|map| headers::append(map, &name, value))
    }

    fn remove_header(&mut self, name: String) -> Answer<bool> {
        self.change_request(|map| headers::remove(map, &name))
    }

    fn remove_headers(&mut self, patterns: Vec<String>) -> Answer<u32> {
        self.change_request(|map| Ok(headers::remove_fitting(map, &patterns)))
    }

    fn set_answer_headers(&mut self, headers: Vec<Header>) -> Answer<()> {
        if self.outcome.unavailable {
            // Its store gave no answer, so it has made up what it tells.
            return Ok(Ok(()));
        }
        self.change(|state| state.set_answer_headers(headers))
    }

    fn answer_header(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        Ok(self.exchange()?.answer_headers.get(&name).map(|value| value.as_bytes().to_vec()))
    }

    fn identify(&mut self, identity: request::Identity) -> Answer<()> {
        let request::Identity { consumer, custom_id, credential, groups, plan, claims, anonymous } = identity;
        let identity = Identity { consumer, custom_id, credential, groups, plan, claims, anonymous };
        self.change(|state| state.identify(identity))
    }

    fn set_body_mode(&mut self, mode: BodyMode) -> Answer<()> {
        let mode = body_mode(mode, &self.plugin.limits);
        self.change(|state| state.set_body_mode(Phase::Request, mode))
    }

    fn trailers(&mut self) -> Result<Vec<Header>> {
        Ok(self.exchange()?.request_trailers.as_deref().map(copy).unwrap_or_default())
    }

    fn set_trailer(&mut self, name: String, value: Vec<u8>) -> Answer<()> {
        self.change(|state| headers::set(state.request_trailers_mut()?, &name, value))
    }

    fn remove_trailer(&mut self, name: String) -> Answer<bool> {
        self.change(|state| headers::remove(state.request_trailers_mut()?, &name))
    }

    fn set_upstream(&mut self, name: String) -> Answer<()> {
        let granted = self.plugin.grants.upstreams.iter().find(|upstream| ***upstream == *name).cloned();
        self.change(|state| state.set_upstream(granted.ok_or(Refusal::Unknown)?))
    }

    fn client(&mut self) -> Result<Client> {
        let state = self.exchange()?;
        Ok(Client {
            ip: state.client_ip.to_string(),
            peer: state.connection.peer.to_string(),
            local: state.connection.local.to_string(),
        })
    }

    fn client_ip(&mut self) -> Result<String> {
        Ok(self.exchange()?.client_ip.to_string())
    }

    fn is_preflight(&mut self) -> Result<bool> {
        Ok(self.request()?.is_preflight())
    }

    fn tls(&mut self) -> Result<Option<Tls>> {
        let tls = self.exchange()?.connection.tls.as_ref();
        Ok(tls.map(|tls| Tls {
            version: tls.version.clone(),
            cipher: tls.cipher.clone(),
            sni: tls.sni.clone(),
            alpn: tls.alpn.clone(),
            client_certificate: tls.client_certificate.clone(),
        }))
    }

    fn var(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        Ok(self.exchange()?.var(&name).map(<[u8]>::to_vec))
    }

    fn set_var(&mut self, name: String, value: Vec<u8>) -> Answer<()> {
        self.change(|state| state.set_var(name, value))
    }
}
