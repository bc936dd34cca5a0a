//! Renews a server's certificate while the server runs, which may be for years; checked when a client connects.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::authority::{Authority, DAYS};
use super::{provider, read_certificates, read_pem};
use crate::error::{UserError, tell};

/// After how long a certificate of the server's own CA is replaced: long before it expires.
const RENEWED_AFTER: Duration = Duration::from_secs(DAYS as u64 / 3 * 24 * 3600);

/// How long to wait before the files are looked at again.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Where the certificate comes from.
#[derive(Debug)]
pub(super) enum CertificateSource {
    Own(Box<Authority>, Vec<String>),
    Files(Files),
}

/// A certificate and its key in PEM.
#[derive(Debug)]
pub(super) struct Files {
    /// The certificate, with those between it and the CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What tells one version of both files from another: device, inode, size, time in seconds and nanoseconds.
type Stamps = [Option<(u64, u64, u64, i64, i64)>; 2];

/// A server's certificate, and where the next one comes from: see the [module](self).
#[derive(Debug)]
pub(super) struct Keeper {
    source: CertificateSource,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    /// When it was made, or last compared with the files.
    at: SystemTime,
    stamps: Stamps,
}

impl Keeper {
    /// # Errors
    /// When there is no certificate to begin with.
    pub fn new(source: CertificateSource) -> Result<Self, UserError> {
        let current = source.read(SystemTime::now())?;
        Ok(Self {
            source,
            current: Mutex::new(current),
        })
    }

    /// The certificate for a client that connects `now`.
    pub fn at(&self, now: SystemTime) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes the time until now unknown.
        let age = now.duration_since(current.at).unwrap_or(Duration::MAX);
        let due = match &self.source {
            CertificateSource::Own(..) => age >= RENEWED_AFTER,
            CertificateSource::Files(files) => {
                let look = age >= LOOK_INTERVAL;
                if look {
                    current.at = now;
                }
                look && files.stamps() != current.stamps
            }
        };
        if due {
            match self.source.read(now) {
                Ok(renewed) => *current = renewed,
                // The old one may do for a while.
                Err(error) => tell!("cannot renew the server's certificate: {error}"),
            }
        }
        Arc::clone(&current.key)
    }
}

impl ResolvesServerCert for Keeper {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(SystemTime::now()))
    }
}

impl CertificateSource {
    fn read(&self, now: SystemTime) -> Result<Current, UserError> {
        let (key, stamps) = match self {
            Self::Own(authority, names) => (authority.issue(names, now)?, Stamps::default()),
            Self::Files(files) => {
                // Taken before reading: what changes meanwhile is read again.
                let stamps = files.stamps();
                (files.read()?, stamps)
            }
        };
        Ok(Current {
            key: Arc::new(key),
            at: now,
            stamps,
        })
    }
}

impl Files {
    fn read(&self) -> Result<CertifiedKey, UserError> {
        let certificates = read_certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&read_pem(&self.key)?).map_err(|_| {
            UserError::new(format!("`{}` has no private key", self.key.display()))
                .hint("it takes PEM without a pass phrase: `-----BEGIN PRIVATE KEY-----`")
        })?;
        CertifiedKey::from_der(certificates, key, &provider()).map_err(|error| {
            UserError::new(format!(
                "the certificate in `{}` and the key in `{}` do not belong together: {error}",
                self.cert.display(),
                self.key.display()
            ))
            .hint(
                "the first certificate of the file is to be the server's own, and the key its key",
            )
        })
    }

    fn stamps(&self) -> Stamps {
        let stamp = |file: &Path| {
            let found = fs::metadata(file).ok()?;
            Some((
                found.dev(),
                found.ino(),
                found.size(),
                found.mtime(),
                found.mtime_nsec(),
            ))
        };
        [stamp(&self.cert), stamp(&self.key)]
    }
}
