//! Calls by HTTP/2 with prior knowledge (RFC 9113, section 3.3): one connection for all of a worker's to an
//! endpoint.

use std::{cell::RefCell, rc::Rc};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

use super::{Address, Error, Pool, Visit, connect_tcp};
use crate::body::Body;

pub type Shared = RefCell<Option<SendRequest<Body>>>;

impl Pool {
    /// Sends on the connection there is, or on a new one. One that is about to end is replaced silently.
    pub async fn send_http2(self: Rc<Self>, mut request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let Visit(pool) = &Visit::begin(self);
        loop {
            let kept = pool.shared.borrow().as_ref().filter(|sender| !sender.is_closed()).cloned();
            let (mut sender, reused) = match kept {
                Some(sender) => (sender, true),
                None => (pool.connect_http2().await?, false),
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => {
                        request = unsent;
                        pool.shared.borrow_mut().take();
                    }
                    _ => return Err(Error::from_hyper(error.into_error())),
                },
            }
        }
    }

    async fn connect_http2(&self) -> Result<SendRequest<Body>, Error> {
        let upstream = self.upstream.borrow().clone();
        let sender = match (&self.endpoint.address, &upstream.settings.tls) {
            (_, Some(tls)) => handshake(self.open(self.secured(tls, tls.http2())).await?).await?,
            (Address::Ip(address), None) => handshake(self.open(connect_tcp(address)).await?).await?,
            (Address::Unix(path), None) => handshake(self.open(UnixStream::connect(path)).await?).await?,
        };
        self.shared.borrow_mut().replace(sender.clone());
        Ok(sender)
    }
}

/// The sender of a new connection, whose driver runs on this worker.
pub(in crate::upstream) async fn handshake<S>(stream: S) -> Result<SendRequest<Body>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, driver) = http2::handshake(Local, TokioIo::new(stream)).await.map_err(Error::from_hyper)?;
    // Ends with the connection; an error reaches the requests that wait on it.
    tokio::task::spawn_local(async move {
        let _ = driver.await;
    });
    Ok(sender)
}

/// Runs what the library has to do for single requests on this worker.
#[derive(Clone)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
