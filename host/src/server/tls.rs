//! The beginning of a connection that speaks TLS.

use std::io;

use http::HeaderValue;
use rustls::{ProtocolVersion, ServerConnection, server::Acceptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

use super::{Door, connection::Line, socket::Socket, watch::Watch};
use crate::{config::ListenerTls, plugin::exchange, tls};

/// For those who take the listener for one that speaks in the clear; as nginx does.
const IN_THE_CLEAR: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 47\r\n\r\nThis is a port for HTTPS: it does not take HTTP";

/// A record with the fatal alert unrecognized_name (RFC 6066, section 3). The library knows only access_denied for who gets
/// no certificate, which says nothing of the name.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

impl Line for TlsStream<Socket> {
    fn socket(&self) -> &Socket {
        self.get_ref().0
    }
}

/// None where it comes to nothing, or takes too long.
pub async fn handshake(
    socket: Socket,
    tls: &ListenerTls,
    door: &Door,
    watch: &Watch,
) -> Option<(TlsStream<Socket>, exchange::Tls)> {
    door.numbers.handshakes.add(1);
    let accepted = tokio::select! {
        biased;
        accepted = accept(socket, tls) => accepted,
        // Whatever the sweep decides: there is nobody yet to tell it to.
        _ = watch.verdict() => Err(io::ErrorKind::TimedOut.into()),
    };
    match accepted {
        Ok(stream) => {
            let facts = facts(stream.get_ref().1, tls.header);
            Some((stream, facts))
        }
        Err(error) => {
            door.numbers.handshake_failures.add(1);
            tracing::debug!("TLS handshake: {error}");
            None
        }
    }
}

async fn accept(socket: Socket, tls: &ListenerTls) -> io::Result<TlsStream<Socket>> {
    // A record of a handshake begins with 22 (RFC 8446, section 5.1), a method with a letter.
    let mut first = [0];
    socket.peek(&mut first).await?;
    if first[0].is_ascii_alphabetic() {
        return refuse(socket, IN_THE_CLEAR, "it speaks HTTP in the clear").await;
    }
    if !tls.strict_sni {
        return TlsAcceptor::from(tls.acceptor.config()).accept(socket).await;
    }
    let begun = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    match tls.acceptor.knows(begun.client_hello().server_name()) {
        true => begun.into_stream(tls.acceptor.config()).await,
        false => refuse(begun.io, UNRECOGNIZED_NAME, "no certificate has the name that it asks for").await,
    }
}

async fn refuse<T>(mut socket: Socket, answer: &[u8], why: &'static str) -> io::Result<T> {
    socket.write_all(answer).await?;
    socket.shutdown().await?;
    // Closing with bytes unread could take the answer back.
    let _ = socket.read(&mut [0; 4096]).await;
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// What was agreed with the client, and what it has shown.
fn facts(connection: &ServerConnection, tells_clients: bool) -> exchange::Tls {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
    // The names of RFC 8446 and RFC 5289; the library tells the first ones with an infix of its own.
    let cipher = suite.and_then(|suite| suite.as_str()).unwrap_or_default().replacen("TLS13_", "TLS_", 1);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown = connection.peer_certificates().and_then(<[_]>::first);
    let client_header = tells_clients.then(|| HeaderValue::try_from(tls::client_header(shown?)).ok());
    exchange::Tls {
        version: version.to_owned(),
        cipher,
        sni: connection.server_name().map(str::to_owned),
        alpn: connection.alpn_protocol().map(text),
        client_certificate: shown.map(|certificate| certificate.to_vec()),
        client_header,
    }
}
