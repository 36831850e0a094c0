//! `exchange`: the request and the response as resources. Their handles carry no data: there is
//! one exchange per call, and it lies in the store.

use http::HeaderMap;
use wasmtime::{Result, component::Resource};

use super::bindings::wasmgate::plugin::{
    exchange::{self, HostRequest, HostResponse},
    types::{BodyMode, Client, Error, Header, Tls},
};
use crate::{
    plugin::{
        self,
        exchange::Phase,
        headers::{self, Refusal},
    },
    wasm::store::Host,
};

pub enum Request {}
pub enum Response {}

/// What the handles stand for.
pub const REQUEST: u32 = 0;
pub const RESPONSE: u32 = 1;

type This<T> = Resource<T>;
type Answer<T> = Result<Result<T, Error>>;

impl exchange::Host for Host {}

impl HostRequest for Host {
    fn method(&mut self, _: This<Request>) -> Result<String> {
        Ok(self.exchange()?.request.method.to_string())
    }

    fn set_method(&mut self, _: This<Request>, method: String) -> Answer<()> {
        Ok(self.exchange()?.set_method(&method).map_err(Error::from))
    }

    fn scheme(&mut self, _: This<Request>) -> Result<String> {
        Ok(self.exchange()?.scheme().to_owned())
    }

    fn authority(&mut self, _: This<Request>) -> Result<String> {
        Ok(self.exchange()?.request.authority.as_str().to_owned())
    }

    fn set_authority(&mut self, _: This<Request>, authority: String) -> Answer<()> {
        Ok(self.exchange()?.set_authority(&authority).map_err(Error::from))
    }

    fn path_with_query(&mut self, _: This<Request>) -> Result<String> {
        Ok(self.exchange()?.request.current_target().as_str().to_owned())
    }

    fn set_path_with_query(&mut self, _: This<Request>, target: String) -> Answer<()> {
        Ok(self.exchange()?.set_target(&target).map_err(Error::from))
    }

    fn path_param(&mut self, _: This<Request>, name: String) -> Result<Option<String>> {
        Ok(self.exchange()?.param(&name).map(str::to_owned))
    }

    fn path_params(&mut self, _: This<Request>) -> Result<Vec<(String, String)>> {
        let params = self.exchange()?.params();
        Ok(params.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn route(&mut self, _: This<Request>) -> Result<String> {
        Ok(self.exchange()?.route.to_string())
    }

    fn header(&mut self, _: This<Request>, name: String) -> Result<Option<Vec<u8>>> {
        Ok(first(&self.exchange()?.request.headers, &name))
    }

    fn header_all(&mut self, _: This<Request>, name: String) -> Result<Vec<Vec<u8>>> {
        Ok(all(&self.exchange()?.request.headers, &name))
    }

    fn headers(&mut self, _: This<Request>, names: Vec<String>) -> Result<Vec<Option<Vec<u8>>>> {
        let map = &self.exchange()?.request.headers;
        Ok(names.iter().map(|name| first(map, name)).collect())
    }

    fn headers_copy(&mut self, _: This<Request>) -> Result<Vec<Header>> {
        Ok(copy(&self.exchange()?.request.headers))
    }

    fn set_header(&mut self, _: This<Request>, name: String, value: Vec<u8>) -> Answer<()> {
        let request = self.exchange()?.request_mut();
        Ok(request.and_then(|r| headers::set(&mut r.headers, &name, value)).map_err(Error::from))
    }

    fn append_header(&mut self, _: This<Request>, name: String, value: Vec<u8>) -> Answer<()> {
        let request = self.exchange()?.request_mut();
        Ok(request.and_then(|r| headers::append(&mut r.headers, &name, value)).map_err(Error::from))
    }

    fn remove_header(&mut self, _: This<Request>, name: String) -> Answer<bool> {
        let request = self.exchange()?.request_mut();
        Ok(request.and_then(|r| headers::remove(&mut r.headers, &name)).map_err(Error::from))
    }

    fn set_body_mode(&mut self, _: This<Request>, mode: BodyMode) -> Answer<()> {
        set_body_mode(self, Phase::Request, mode)
    }

    fn set_upstream(&mut self, _: This<Request>, name: String) -> Answer<()> {
        let granted = self.plugin.upstreams.iter().find(|upstream| ***upstream == *name).cloned();
        let chosen = granted.ok_or(Refusal::Unknown);
        let state = self.exchange()?;
        Ok(chosen.and_then(|name| state.set_upstream(name)).map_err(Error::from))
    }

    fn client(&mut self, _: This<Request>) -> Result<Client> {
        let state = self.exchange()?;
        Ok(Client {
            ip: state.client_ip.to_string(),
            peer: state.connection.peer.to_string(),
            local: state.connection.local.to_string(),
        })
    }

    fn tls(&mut self, _: This<Request>) -> Result<Option<Tls>> {
        let tls = self.exchange()?.connection.tls.as_ref();
        Ok(tls.map(|tls| Tls {
            version: tls.version.clone(),
            cipher: tls.cipher.clone(),
            sni: tls.sni.clone(),
            alpn: tls.alpn.clone(),
            client_certificate: tls.client_certificate.clone(),
        }))
    }

    fn var(&mut self, _: This<Request>, name: String) -> Result<Option<Vec<u8>>> {
        Ok(self.exchange()?.var(&name).map(<[u8]>::to_vec))
    }

    fn set_var(&mut self, _: This<Request>, name: String, value: Vec<u8>) -> Answer<()> {
        Ok(self.exchange()?.set_var(name, value).map_err(Error::from))
    }

    fn drop(&mut self, _: This<Request>) -> Result<()> {
        Ok(())
    }
}

impl HostResponse for Host {
    fn status(&mut self, _: This<Response>) -> Result<u16> {
        Ok(response(self)?.status.as_u16())
    }

    fn set_status(&mut self, _: This<Response>, status: u16) -> Answer<()> {
        Ok(self.exchange()?.set_status(status).map_err(Error::from))
    }

    fn from_upstream(&mut self, _: This<Response>) -> Result<bool> {
        Ok(response(self)?.from_upstream)
    }

    fn header(&mut self, _: This<Response>, name: String) -> Result<Option<Vec<u8>>> {
        Ok(first(&response(self)?.headers, &name))
    }

    fn header_all(&mut self, _: This<Response>, name: String) -> Result<Vec<Vec<u8>>> {
        Ok(all(&response(self)?.headers, &name))
    }

    fn headers(&mut self, _: This<Response>, names: Vec<String>) -> Result<Vec<Option<Vec<u8>>>> {
        let map = &response(self)?.headers;
        Ok(names.iter().map(|name| first(map, name)).collect())
    }

    fn headers_copy(&mut self, _: This<Response>) -> Result<Vec<Header>> {
        Ok(copy(&response(self)?.headers))
    }

    fn set_header(&mut self, _: This<Response>, name: String, value: Vec<u8>) -> Answer<()> {
        let response = self.exchange()?.response_mut();
        Ok(response.and_then(|r| headers::set(&mut r.headers, &name, value)).map_err(Error::from))
    }

    fn append_header(&mut self, _: This<Response>, name: String, value: Vec<u8>) -> Answer<()> {
        let response = self.exchange()?.response_mut();
        Ok(response.and_then(|r| headers::append(&mut r.headers, &name, value)).map_err(Error::from))
    }

    fn remove_header(&mut self, _: This<Response>, name: String) -> Answer<bool> {
        let response = self.exchange()?.response_mut();
        Ok(response.and_then(|r| headers::remove(&mut r.headers, &name)).map_err(Error::from))
    }

    fn set_body_mode(&mut self, _: This<Response>, mode: BodyMode) -> Answer<()> {
        set_body_mode(self, Phase::Response, mode)
    }

    fn drop(&mut self, _: This<Response>) -> Result<()> {
        Ok(())
    }
}

fn response(host: &mut Host) -> Result<&plugin::exchange::ResponseHead> {
    let response = host.exchange()?.response.as_ref();
    response.ok_or_else(|| wasmtime::Error::msg("there is no response in this phase"))
}

fn set_body_mode(host: &mut Host, head: Phase, mode: BodyMode) -> Answer<()> {
    let most = u32::try_from(host.plugin.limits.body).unwrap_or(u32::MAX);
    let mode = match mode {
        BodyMode::None => None,
        BodyMode::Peek(bytes) => Some(plugin::BodyMode::Peek(bytes.min(most))),
        BodyMode::Buffer(bytes) => Some(plugin::BodyMode::Buffer(bytes.min(most))),
        BodyMode::Stream => Some(plugin::BodyMode::Stream),
    };
    Ok(host.exchange()?.set_body_mode(head, mode).map_err(Error::from))
}

fn first(map: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    map.get(name).map(|value| value.as_bytes().to_vec())
}

fn all(map: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    map.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
}

fn copy(map: &HeaderMap) -> Vec<Header> {
    map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}
