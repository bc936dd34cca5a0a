//! The CA of one state folder, made once: `tls/ca.pem`, which clients get, and `tls/ca-key.pem`, which only its owner can read.
//!
//! Everything about the CA but its key is fixed or follows from the key, so a lost certificate can be made again, and
//! clients that trust the old one trust what the CA signs. Both files are written under another name and renamed; of
//! two processes that make the key at once, the second takes the first one's.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use super::{provider, unusable};
use crate::error::UserError;
use crate::model::uuid::hex;

/// The file of the CA's certificate.
pub(super) const CERTIFICATE: &str = "ca.pem";

/// The file of its key.
const KEY: &str = "ca-key.pem";

/// For how many days a server's certificate is valid.
pub(super) const DAYS: i64 = 90;

/// By how many days a client's clock may be behind.
const DAYS_BEHIND: i64 = 2;

/// The CA of one state folder: see the [module](self).
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The CA in `folder`, made if there is none.
    pub fn open(folder: &Path) -> Result<Self, UserError> {
        let failed = |error: io::Error| {
            UserError::new(format!(
                "cannot keep the CA's files in `{}`: {error}",
                folder.display()
            ))
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
        let path = folder.join(KEY);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let fresh = KeyPair::generate().map_err(unusable)?.serialize_pem();
                write_once(folder, KEY, fresh.as_bytes()).map_err(failed)?;
                fs::read_to_string(&path)
            }
            text => text,
        };
        let key = KeyPair::from_pem(&text.map_err(failed)?).map_err(|_| {
            UserError::new(format!("`{}` has no key of a CA", path.display())).hint(
                "without it, remove the folder: a new CA is made, which clients are to be given anew",
            )
        })?;
        let params = parameters(&key);
        let certificate = folder.join(CERTIFICATE);
        if !fs::read(&certificate).is_ok_and(|pem| is_of(&pem, &key)) {
            let pem = params.self_signed(&key).map_err(unusable)?.pem();
            replace(folder, CERTIFICATE, pem.as_bytes()).map_err(failed)?;
        }
        Ok(Self {
            issuer: Issuer::new(params, key),
        })
    }

    /// A new certificate for a server, valid from a little before `now`, and its key, which is not stored.
    pub fn issue(&self, names: &[String], now: SystemTime) -> Result<CertifiedKey, UserError> {
        let key = KeyPair::generate().map_err(unusable)?;
        let names = all_names(names);
        let mut params = CertificateParams::new(names.clone()).map_err(unusable)?;
        let common = names.first().map_or("localhost", String::as_str);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let [first, last] = [day(now, -DAYS_BEHIND)?, day(now, DAYS)?];
        params.not_before = date_time_ymd(first.0, first.1, first.2);
        params.not_after = date_time_ymd(last.0, last.1, last.2);
        let certificate = params.signed_by(&key, &self.issuer).map_err(unusable)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider()).map_err(unusable)
    }
}

/// The contents of the CA's certificate: nothing that changes, so that it is the same CA whenever the certificate is made.
fn parameters(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Two CAs that a client trusts must not have one name.
    let print = hex(&Sha256::digest(key.subject_public_key_info())[..4]);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("dyno CA {print}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // The last year that every program can read.
    (params.not_before, params.not_after) =
        (date_time_ymd(2025, 1, 1), date_time_ymd(2049, 12, 31));
    params
}

/// Whether a certificate in PEM has the public key of `key`.
fn is_of(pem: &[u8], key: &KeyPair) -> bool {
    let Ok(found) = <CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(pem)
    else {
        return false;
    };
    let Ok(ours) = PrivateKeyDer::try_from(key.serialize_der()) else {
        return false;
    };
    let signing = provider().key_provider.load_private_key(ours);
    signing.is_ok_and(|signing| {
        CertifiedKey::new(vec![found], Arc::clone(&signing))
            .keys_match()
            .is_ok()
    })
}

/// The names and addresses in a server's certificate, each once.
fn all_names(more: &[String]) -> Vec<String> {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy().to_lowercase();
    let mut names: Vec<String> = Vec::new();
    for name in ["localhost", "127.0.0.1", "::1", &host]
        .into_iter()
        .chain(more.iter().map(String::as_str))
    {
        let is_name = ServerName::try_from(name).is_ok();
        if is_name && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The day that is `days` after `now`, at its beginning.
fn day(now: SystemTime, days: i64) -> Result<(i32, u8, u8), UserError> {
    let date = Timestamp::try_from(now)
        .map_err(unusable)?
        .to_zoned(TimeZone::UTC)
        .date()
        .checked_add(days.days())
        .map_err(unusable)?;
    let [month, day] = [date.month(), date.day()].map(i8::unsigned_abs);
    Ok((date.year().into(), month, day))
}

/// Writes a file that only its owner may read, unless it exists.
fn write_once(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    aside.write_all(content)?;
    aside.as_file().sync_all()?;
    match aside.persist_noclobber(folder.join(name)) {
        Err(failed) if failed.error.kind() != io::ErrorKind::AlreadyExists => Err(failed.error),
        _ => sync(folder),
    }
}

/// Replaces a file that every user may read who can reach the folder.
fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    aside.write_all(content)?;
    aside
        .as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    aside.as_file().sync_all()?;
    aside
        .persist(folder.join(name))
        .map_err(|failed| failed.error)?;
    sync(folder)
}

/// Has the names in a folder survive a power failure.
fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
