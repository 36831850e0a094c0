//! A certificate with its chain and its key.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    Error,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::alternative_names;

/// Shared, for configs are compared and copied.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    /// Lower case; a star may stand for the first label.
    pub names: Vec<String>,
    pub expires: SystemTime,
}

/// Which of the two files is not as it should be, and why.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    Certificate(String),
    Key(String),
}

impl Identity {
    /// From PEM: the certificate with those that lead to its authority, and the key.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Identity, Fault> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let certificates = certificates.map_err(|error| Fault::Certificate(error.to_string()))?;
        let Some(own) = certificates.first() else {
            return Err(Fault::Certificate("there is no certificate in it".to_owned()));
        };
        let (_, parsed) =
            X509Certificate::from_der(own).map_err(|error| Fault::Certificate(error.to_string()))?;
        let names = alternative_names(&parsed).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        let names = names.collect();
        let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(end);
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            Fault::Key(match error {
                rustls::pki_types::pem::Error::NoItemsFound => "there is no key in it".to_owned(),
                error => error.to_string(),
            })
        })?;
        let certified = CertifiedKey::from_der(certificates, key, &aws_lc_rs::default_provider());
        match certified {
            Ok(certified) => Ok(Identity { certified: Arc::new(certified), names, expires }),
            Err(Error::InconsistentKeys(_)) => {
                Err(Fault::Key("this is not the key of the certificate".to_owned()))
            }
            Err(error) => Err(Fault::Key(error.to_string())),
        }
    }
}

/// Two are the same that show the same.
impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        self.certified.cert == other.certified.cert
    }
}
