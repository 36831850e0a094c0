//! An authority that issues certificates, and a client that speaks TLS.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use tempfile::TempDir;

use crate::{
    PATIENCE,
    message::{Reader, Response},
};

/// Whom clients and servers trust.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate of an authority, with its key.
pub struct Issued {
    pub cert: String,
    pub key: String,
    serial: u64,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// For these names, the first of which is its subject. Those with a scheme are URIs.
    pub fn issue(&self, serial: u64, names: &[&str]) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.serial_number = Some(SerialNumber::from(serial));
        params.subject_alt_names = names.iter().map(|name| alternative(name)).collect();
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { cert, key: key.serialize_pem(), serial }
    }

    /// A list of those that are no longer good.
    pub fn revoke(&self, gone: &[&Issued]) -> String {
        let revoked = |issued: &&Issued| RevokedCertParams {
            serial_number: SerialNumber::from(issued.serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: gone.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }
}

/// The files that the shipped configs name below /etc/wasmgate/tls.
pub fn certificates() -> TempDir {
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new("the examples"));
    let write = |name: String, text: &str| fs::write(folder.path().join(name), text).expect("written");
    for name in ["api.example.com", "example.org"] {
        let issued = authority.issue(1, &[name]);
        write(format!("{name}.crt"), &issued.cert);
        write(format!("{name}.key"), &issued.key);
    }
    write("partners.pem".to_owned(), &authority.pem);
    write("revoked.pem".to_owned(), &authority.revoke(&[]));
    folder
}

fn alternative(name: &str) -> SanType {
    let text = || name.try_into().expect("an ASCII name");
    if name.contains("://") { SanType::URI(text()) } else { SanType::DnsName(text()) }
}

/// What a client trusts, and what it shows.
pub fn client_config(authority: &Authority, shows: Option<&Issued>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("a certificate");
    roots.add(root).expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match shows {
        None => builder.with_no_client_auth(),
        Some(Issued { cert, key, .. }) => {
            let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(vec![cert], key).expect("a pair")
        }
    };
    Arc::new(config)
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A connection that stays open.
pub struct TlsClient {
    stream: Shared,
    reader: Reader,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Stream>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lock().read(buffer)
    }
}

impl TlsClient {
    /// Asks for this name. The error is that of the handshake.
    pub fn connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<TlsClient> {
        TlsClient::over(TcpStream::connect_timeout(&address, PATIENCE)?, name, config)
    }

    /// The same on a connection that there is.
    pub fn over(tcp: TcpStream, name: &str, config: &Arc<ClientConfig>) -> io::Result<TlsClient> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let stream = Shared(Arc::new(Mutex::new(stream)));
        Ok(TlsClient { reader: Reader::new(stream.clone()), stream })
    }

    /// A GET with these fields, which are lines that end in CRLF.
    pub fn get(&mut self, target: &str, fields: &str) -> io::Result<Response> {
        self.ask("a.test", target, fields)
    }

    /// The same of another host.
    pub fn ask(&mut self, host: &str, target: &str, fields: &str) -> io::Result<Response> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        self.stream.lock().write_all(request.as_bytes())?;
        self.reader.response("GET")
    }

    /// The certificate of the other side, DER.
    pub fn certificate(&self) -> Vec<u8> {
        let stream = self.stream.lock();
        let shown = stream.conn.peer_certificates().and_then(<[_]>::first);
        shown.map(|certificate| certificate.to_vec()).unwrap_or_default()
    }

    /// What ALPN came to; nothing where it was not used.
    pub fn protocol(&self) -> String {
        let stream = self.stream.lock();
        stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
    }

    /// Whether the handshake was cut short by a ticket.
    pub fn is_resumed(&self) -> bool {
        self.stream.lock().conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }
}
