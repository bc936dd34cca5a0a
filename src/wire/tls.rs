//! The TLS configuration of servers and clients: certificates, and the CAs that a client trusts.
//!
//! A server has a certificate from a CA of its own (`tls/authority.rs`), made once in the state folder, or one from
//! files that another program keeps up to date. Both are renewed while the server runs (`tls/keeper.rs`). This module
//! only makes configurations for rustls; bytes are moved by [`stream`](crate::wire::stream).

mod authority;
mod keeper;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::error::UserError;
use crate::model::settings::Settings;
use authority::Authority;
use keeper::{CertificateSource, Files, Keeper};

/// The folder of the CA in the state folder.
const FOLDER: &str = "tls";

/// The longest PEM file that is read, in bytes: all CAs of a system take less than 1 MiB.
const LONGEST_FILE: u64 = 4 * 1024 * 1024;

/// Where a server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// From the CA in the state folder, for `localhost`, `127.0.0.1`, `::1`, the host's name, and these names or
    /// addresses.
    Own(Vec<String>),
    /// These files, in PEM: the certificate with its chain, and its key. Read again when they change.
    Files {
        /// The certificates, the server's own first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

impl Certificate {
    /// The certificate that the settings name.
    ///
    /// # Errors
    /// When there is a certificate without a key, or a key without a certificate.
    pub fn chosen(settings: &Settings) -> Result<Self, UserError> {
        match (&settings.tls_cert, &settings.tls_key) {
            (None, None) => Ok(Self::Own(settings.tls_names.clone())),
            (Some(cert), Some(key)) => Ok(Self::Files {
                cert: cert.clone(),
                key: key.clone(),
            }),
            (Some(given), None) | (None, Some(given)) => Err(UserError::new(format!(
                "`{}` alone is not enough: TLS needs a certificate and its key",
                given.display()
            ))
            .hint("set both `tls_cert` and `tls_key`, or neither for a certificate of the server's own CA")),
        }
    }
}

/// The TLS configuration of a server with the state folder `home`.
///
/// # Errors
/// When files cannot be read, written or parsed, or the key is not the certificate's.
pub fn server_config(
    home: &Path,
    certificate: &Certificate,
) -> Result<Arc<ServerConfig>, UserError> {
    let source = match certificate {
        Certificate::Own(names) => CertificateSource::Own(
            Box::new(Authority::open(&home.join(FOLDER))?),
            names.clone(),
        ),
        Certificate::Files { cert, key } => CertificateSource::Files(Files {
            cert: cert.clone(),
            key: key.clone(),
        }),
    };
    let keeper = Keeper::new(source)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(keeper));
    // Most clients connect once; session tickets would only cost memory and bytes.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// The file of the CA in the state folder `home`, for clients that are to trust this server; made if it is not there.
///
/// # Errors
/// As [`server_config`].
pub fn ca_file(home: &Path) -> Result<PathBuf, UserError> {
    Authority::open(&home.join(FOLDER)).map(|_| ca_path(home))
}

/// The path of the CA's certificate in the state folder `home`, whether it exists or not.
pub fn ca_path(home: &Path) -> PathBuf {
    home.join(FOLDER).join(authority::CERTIFICATE)
}

/// The TLS configuration of a client. It trusts the CAs in the file `only`; without one, those that this host trusts,
/// and the CA in the state folder `home` if there is one.
///
/// # Errors
/// When the file has no certificate, or no CA is found at all.
pub fn client_config(only: Option<&Path>, home: &Path) -> Result<Arc<ClientConfig>, UserError> {
    let mut roots = RootCertStore::empty();
    match only {
        Some(file) => {
            let (added, _) = roots.add_parsable_certificates(read_certificates(file)?);
            if added == 0 {
                return Err(no_certificate(file));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            let own = home.join(FOLDER).join(authority::CERTIFICATE);
            roots.add_parsable_certificates(read_certificates(&own).unwrap_or_default());
        }
    }
    if roots.is_empty() {
        return Err(
            UserError::new("this host has no certificates of CAs to check a server by")
                .hint("`--tls-ca FILE` names one: `tls/ca.pem` in the server's state folder"),
        );
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The name or address that a server's certificate must be for; no brackets around an IPv6 address.
///
/// # Errors
/// When `host` is no valid name or address.
pub fn server_name(host: &str) -> Result<ServerName<'static>, UserError> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        UserError::new(format!("`{host}` is neither a host's name nor an address"))
            .hint("write it like `example.com`, `192.0.2.1` or `[2001:db8::1]`")
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, UserError> {
    let text = read_pem(file)?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, pem::Error>>()
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| no_certificate(file))
}

fn read_pem(file: &Path) -> Result<Vec<u8>, UserError> {
    let failed = |why: String| UserError::new(format!("cannot read `{}`: {why}", file.display()));
    let length = std::fs::metadata(file)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if length > LONGEST_FILE {
        return Err(failed(format!("it is {length} bytes long")));
    }
    std::fs::read(file).map_err(|error| failed(error.to_string()))
}

fn no_certificate(file: &Path) -> UserError {
    UserError::new(format!("`{}` has no certificate", file.display())).hint(
        "it takes PEM: lines from `-----BEGIN CERTIFICATE-----` to `-----END CERTIFICATE-----`",
    )
}

/// The error for a rustls configuration that is refused, which only a bug can cause.
fn unusable(error: impl std::fmt::Display) -> UserError {
    UserError::new(format!("TLS cannot be used: {error}"))
}

#[cfg(test)]
mod tests;
