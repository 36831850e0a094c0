//! HTTP/2 without TLS, by prior knowledge, for services of the tests.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http2,
    service::Service,
};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Serves on a free port until the test process ends.
pub fn serve<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>, Future: Send, Error: Into<Fault>>
        + Clone
        + Send
        + 'static,
    B: Body<Data: Send, Error: Into<Fault>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket option");
    let address = listener.local_addr().expect("a bound socket");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let connection = http2::Builder::new(TokioExecutor::new())
                    .auto_date_header(false)
                    .serve_connection(TokioIo::new(stream), service.clone());
                tokio::spawn(connection);
            }
        });
    });
    address
}

type Fault = Box<dyn std::error::Error + Send + Sync>;
