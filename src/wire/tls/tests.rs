//! What clients make of a server's certificate, by rustls' own verifier at made-up times.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn keeper(home: &Path, names: &[&str]) -> Keeper {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Keeper::new(CertificateSource::Own(
        Box::new(Authority::open(&home.join(FOLDER)).unwrap()),
        names,
    ))
    .unwrap()
}

/// Whether a client that believes `ca` takes this certificate for that of `name` at that time.
fn is_believed(ca: &Path, shown: &CertifiedKey, name: &str, at: SystemTime) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read_certificates(ca).unwrap());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .unwrap();
    let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    verifier
        .verify_server_cert(
            &shown.cert[0],
            &shown.cert[1..],
            &server_name(name).unwrap(),
            &[],
            UnixTime::since_unix_epoch(at),
        )
        .is_ok()
}

#[test]
fn a_certificate_is_for_this_host_and_the_names_that_were_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let keeper = keeper(home.path(), &["box.example", "192.0.2.7", "no name!"]);
    let (ca, now) = (ca_file(home.path()).unwrap(), SystemTime::now());
    let shown = keeper.at(now);
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    for name in [
        "localhost",
        "127.0.0.1",
        "::1",
        &host,
        "box.example",
        "192.0.2.7",
    ] {
        assert!(is_believed(&ca, &shown, name, now), "{name}");
    }
    for name in ["example.com", "192.0.2.8"] {
        assert!(!is_believed(&ca, &shown, name, now), "{name}");
    }
}

#[test]
fn a_server_that_runs_for_years_shows_a_certificate_that_is_good() {
    let home = tempfile::tempdir().unwrap();
    let keeper = keeper(home.path(), &[]);
    let (ca, began) = (ca_file(home.path()).unwrap(), SystemTime::now());
    let mut different = 0;
    let mut last = keeper.at(began);
    for day in 0..1000 {
        let now = began + DAY * day;
        let shown = keeper.at(now);
        // With a month to spare for a client that looks at it later.
        for at in [now, now - DAY, now + 30 * DAY] {
            assert!(is_believed(&ca, &shown, "localhost", at), "day {day}");
        }
        different += usize::from(!Arc::ptr_eq(&shown, &last));
        last = shown;
    }
    assert!((20..50).contains(&different), "{different}");
    // The clock was wrong, and is set right.
    assert!(is_believed(&ca, &keeper.at(began), "localhost", began));
}

#[test]
fn the_ca_is_made_once_and_its_key_is_private() {
    let home = tempfile::tempdir().unwrap();
    let ca = ca_file(home.path()).unwrap();
    let before = fs::read(&ca).unwrap();
    let key = home.path().join(FOLDER).join("ca-key.pem");
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!before.windows(7).any(|bytes| bytes == b"PRIVATE"));
    let shown = keeper(home.path(), &[]).at(SystemTime::now());
    ca_file(home.path()).unwrap();
    assert_eq!(fs::read(&ca).unwrap(), before);

    // One that was lost or spoilt is made again, for the same key: who believes the old one goes on to.
    let old = home.path().join("old.pem");
    fs::write(&old, &before).unwrap();
    for spoilt in [&b"-----BEGIN"[..], b""] {
        fs::write(&ca, spoilt).unwrap();
        let again = keeper(home.path(), &[]).at(SystemTime::now());
        for (ca, shown) in [(&ca, &shown), (&ca, &again), (&old, &again)] {
            assert!(is_believed(ca, shown, "localhost", SystemTime::now()));
        }
    }
    // Nobody's key is made up for one that cannot be read.
    fs::write(&key, "garbage").unwrap();
    let error = ca_file(home.path()).unwrap_err();
    assert!(error.message.ends_with("ca-key.pem` has no key of a CA"));
}

#[test]
fn many_who_make_a_ca_at_once_get_one() {
    let home = tempfile::tempdir().unwrap();
    let shown: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| keeper(home.path(), &[]).at(SystemTime::now())))
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let ca = ca_file(home.path()).unwrap();
    for shown in shown {
        assert!(is_believed(&ca, &shown, "localhost", SystemTime::now()));
    }
    let left = fs::read_dir(home.path().join(FOLDER)).unwrap().count();
    assert_eq!(left, 2);
}

/// Writes a certificate for `name` and its key, and returns where, with the CA.
fn write_files(folder: &Path, name: &str) -> (Files, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = folder.join(format!("{name}-ca.pem"));
    fs::write(&ca, params.self_signed(&authority).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let pem = params.signed_by(&key, &issuer).unwrap().pem();
    // As those do that renew certificates: aside, and renamed.
    for (file, content) in [("cert.pem", pem), ("key.pem", key.serialize_pem())] {
        let aside = home.path().join(file);
        fs::write(&aside, content).unwrap();
        fs::copy(&aside, folder.join(format!("{file}.new"))).unwrap();
        fs::rename(folder.join(format!("{file}.new")), folder.join(file)).unwrap();
    }
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    (Files { cert, key }, ca)
}

#[test]
fn files_are_read_anew_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let (files, ca) = write_files(folder.path(), "first.example");
    let keeper = Keeper::new(CertificateSource::Files(files)).unwrap();
    let now = SystemTime::now();
    let first = keeper.at(now);
    assert!(is_believed(&ca, &first, "first.example", now));
    let (_, ca) = write_files(folder.path(), "second.example");
    // Not at once, lest everybody who comes has files looked at.
    assert!(Arc::ptr_eq(&keeper.at(now), &first));
    let later = now + Duration::from_secs(60);
    assert!(is_believed(&ca, &keeper.at(later), "second.example", later));
    // A file that is not valid changes nothing.
    fs::write(folder.path().join("key.pem"), "garbage").unwrap();
    let latest = later + Duration::from_secs(60);
    assert!(is_believed(
        &ca,
        &keeper.at(latest),
        "second.example",
        latest
    ));
}

#[test]
fn a_certificate_comes_with_its_key() {
    let settings = |cert: &str, key: &str| Settings {
        tls_cert: (!cert.is_empty()).then(|| cert.into()),
        tls_key: (!key.is_empty()).then(|| key.into()),
        tls_names: vec!["box.example".into()],
        ..Settings::default()
    };
    let own = Certificate::Own(vec!["box.example".into()]);
    assert_eq!(Certificate::chosen(&settings("", "")).unwrap(), own);
    assert!(matches!(
        Certificate::chosen(&settings("/c", "/k")),
        Ok(Certificate::Files { .. })
    ));
    for (cert, key) in [("/c", ""), ("", "/k")] {
        assert!(Certificate::chosen(&settings(cert, key)).is_err());
    }
}

#[test]
fn files_of_no_use_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (files, ca) = write_files(folder.path(), "first.example");
    let said = |cert: &Path, key: &Path| {
        let certificate = Certificate::Files {
            cert: cert.to_owned(),
            key: key.to_owned(),
        };
        server_config(folder.path(), &certificate)
            .unwrap_err()
            .message
    };
    let missing = folder.path().join("missing");
    assert!(said(&missing, &files.key).contains("missing`: No such file"));
    assert!(said(&files.key, &files.key).ends_with("key.pem` has no certificate"));
    assert!(said(&files.cert, &files.cert).ends_with("cert.pem` has no private key"));
    // A certificate of another key.
    assert!(said(&ca, &files.key).contains("do not belong together"));
    let big = folder.path().join("big");
    fs::File::create(&big)
        .unwrap()
        .set_len(LONGEST_FILE + 1)
        .unwrap();
    assert!(said(&big, &files.key).contains("bytes long"));
    let error = client_config(Some(&files.key), folder.path()).unwrap_err();
    assert!(error.message.ends_with("key.pem` has no certificate"));
    assert!(client_config(Some(&ca), folder.path()).is_ok());
    assert!(server_name("a b").is_err() && server_name("[::1]").is_err());
}
