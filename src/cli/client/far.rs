//! A server on another host, or of another user: its address, the CA that it is trusted by, and the token.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::transport::FarSocket;
use crate::error::{UserError, shown};
use crate::kernel::listener::Listeners;
use crate::wire::stream::Stream;
use crate::wire::tls;

/// The default port of the API.
const PORT: u16 = 5001;

/// What to do about a listener that is not trusted.
const IN_THE_CLEAR: &str = "with `https://` its certificate says whose it is; `DYNO_TLS_CA` names the CA, `tls/ca.pem` in the server's state folder";

/// How many characters of an invalid address are shown.
const SHOWN: usize = 100;

/// A server on another host, or of another user.
#[derive(Clone)]
pub struct Far {
    /// The host and port, as they go into `Host`.
    authority: String,
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    token: String,
    /// The file of the CA that it is trusted by, if one was named; absolute.
    ca: Option<PathBuf>,
}

impl fmt::Debug for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the token.
        f.write_str(&self.authority)
    }
}

impl Far {
    /// The server at `url`, which is `https://HOST:PORT`, or `http://` on this host. The CAs in the file `ca` are
    /// trusted, or else those of this host and of the state folder `home`.
    ///
    /// # Errors
    /// When the address or the token is not valid, or no CA is found.
    pub fn new(
        url: &str,
        token: Option<String>,
        ca: Option<&Path>,
        home: &Path,
    ) -> Result<Self, UserError> {
        let place = parse(url)?;
        let token = token.filter(|token| !token.is_empty()).ok_or_else(|| {
            UserError::new(format!("the server at `{}` wants a token", place.authority))
                .hint("set DYNO_API_KEY to one: `dyno auth:token` makes it, on the server's host")
        })?;
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UserError::new("DYNO_API_KEY holds what no token has")
                .hint("`dyno auth:token` makes one, on the server's host"));
        }
        let tls = match place.secure {
            true => Some((
                tls::client_config(ca, home)?,
                tls::server_name(&place.host)?,
            )),
            false => None,
        };
        Ok(Self {
            authority: place.authority,
            host: place.host,
            port: place.port,
            tls,
            token,
            ca: ca.and_then(|ca| std::path::absolute(ca).ok()),
        })
    }

    /// Its address: `https://box.example:5001`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }

    /// The file of the CA that it is trusted by, if one was named.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The host and port, for messages and for `Host`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The value of `Authorization`.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Connects, and over TLS checks the server's certificate.
    ///
    /// # Errors
    /// Why there is no connection; with an [`io::Error`] in its chain if the kernel refused it.
    pub(super) fn connect(&self, patience: Duration) -> anyhow::Result<FarSocket> {
        let what = || format!("cannot reach the server at `{}`", self.authority);
        let addresses: Vec<_> = match (self.host.as_str(), &self.tls) {
            // One of the two that the name may mean, and always the same.
            ("localhost", None) => vec![(Ipv4Addr::LOCALHOST, self.port).into()],
            (host, _) => (host, self.port)
                .to_socket_addrs()
                .with_context(what)?
                .collect(),
        };
        let mut last = None;
        for address in addresses {
            let before = self.check_owner(address)?;
            match TcpStream::connect_timeout(&address, patience) {
                Ok(socket) => {
                    // The connection went to the socket that was looked at, if that is still there.
                    if self.check_owner(address)? != before {
                        return Err(anyhow!("the server has just changed").context(what()));
                    }
                    return self.greet(socket, patience).with_context(what);
                }
                Err(error) => last = Some(error),
            }
        }
        let error = last.unwrap_or_else(|| io::ErrorKind::NotFound.into());
        Err(anyhow::Error::new(error).context(what()))
    }

    /// In the clear: whose the socket is that listens there, before it gets the token. A dyno's does not. Returns the
    /// socket's inode; None over TLS, where the certificate says whose it is, and if no socket listens there.
    fn check_owner(&self, address: SocketAddr) -> Result<Option<u64>, UserError> {
        if self.tls.is_some() {
            return Ok(None);
        }
        let who = match Listeners::open().owner_at(address) {
            Ok(None) => return Ok(None),
            Ok(Some(owner)) => match owner.sandboxed {
                Some((number, name)) => {
                    format!("process {number} ({name}), which is in a sandbox,")
                }
                None if has_account(owner.uid) => return Ok(Some(owner.inode)),
                None => format!("user {}, who has no account here,", owner.uid),
            },
            Err(error) => {
                return Err(UserError::new(format!(
                    "cannot find out who listens at `{address}`: {error}"
                ))
                .hint(IN_THE_CLEAR));
            }
        };
        Err(UserError::new(format!(
            "{who} listens at `{address}`; the token was not sent"
        ))
        .hint(IN_THE_CLEAR))
    }

    fn greet(&self, socket: TcpStream, patience: Duration) -> anyhow::Result<FarSocket> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let stream = match &self.tls {
            Some((config, name)) => {
                Stream::connect(socket.into(), Arc::clone(config), name.clone())?
            }
            None => Stream::plain(socket.into()),
        };
        let mut socket = FarSocket::new(stream);
        socket.set_patience(Some(patience));
        match socket.shake_hands() {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(self.strange(&error)),
            done => Ok(done.map(|()| socket)?),
        }
    }

    /// The error for a server that cannot be trusted, or does not speak TLS.
    fn strange(&self, error: &io::Error) -> anyhow::Error {
        let why = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let error = match why {
            Some(rustls::Error::InvalidCertificate(why)) => UserError::new(format!(
                "the server at `{}` cannot be trusted: its certificate is not valid ({why:?})",
                self.authority
            ))
            .hint("`--tls-ca FILE` or DYNO_TLS_CA names its CA: `tls/ca.pem` in its state folder"),
            _ => UserError::new(format!(
                "the server at `{}` does not speak TLS: {error}",
                self.authority
            ))
            .hint("DYNO_HOST must be the address of the API, not of the rendezvous or the router"),
        };
        anyhow!(error)
    }
}

/// Whether a user may have a server: root, and each user that has an account. What stands for all users that this process's user
/// namespace does not know stands for dynos', too.
fn has_account(uid: u32) -> bool {
    const UNKNOWN: u32 = 65_534;
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut uids = passwd.lines().filter_map(|line| line.split(':').nth(2));
    uid == 0
        || uid == rustix::process::geteuid().as_raw()
        || (uid != UNKNOWN && uids.any(|known| known.parse() == Ok(uid)))
}

#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    authority: String,
    host: String,
    port: u16,
    secure: bool,
}

fn parse(url: &str) -> Result<Parsed, UserError> {
    let bad = |why: &str| {
        UserError::new(format!(
            "DYNO_HOST=`{}` {why}",
            shown(url.as_bytes(), SHOWN)
        ))
        .hint(
            "write it like `https://box.example:5001`; without it, commands ask this host's server",
        )
    };
    let (secure, rest) = match url.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => return Err(bad("begins neither with `https://` nor with `http://`")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return Err(bad("has something behind its `]`")),
            },
            None => return Err(bad("has no `]`")),
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if tls::server_name(host).is_err() {
        return Err(bad("names no host"));
    }
    let port = match port {
        None => PORT,
        Some(port) => port
            .parse()
            .map_err(|_| bad("has no port behind its host"))?,
    };
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !secure && !is_here {
        return Err(bad("would send the token in the clear"));
    }
    let bracketed = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    Ok(Parsed {
        authority: format!("{bracketed}:{port}"),
        host: host.to_owned(),
        port,
        secure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_without_a_path() {
        for (url, authority, host, secure) in [
            (
                "https://box.example:443",
                "box.example:443",
                "box.example",
                true,
            ),
            (
                "https://box.example/",
                "box.example:5001",
                "box.example",
                true,
            ),
            (
                "https://[2001:db8::1]:80",
                "[2001:db8::1]:80",
                "2001:db8::1",
                true,
            ),
            ("https://[::1]", "[::1]:5001", "::1", true),
            ("http://localhost:1", "localhost:1", "localhost", false),
            ("http://127.0.0.1:1", "127.0.0.1:1", "127.0.0.1", false),
        ] {
            let parsed = parse(url).unwrap();
            assert_eq!(
                (&*parsed.authority, &*parsed.host, parsed.secure),
                (authority, host, secure),
                "{url}"
            );
        }
        for url in [
            "",
            "box.example:443",
            "ftp://box",
            "https://",
            "https://a b",
            "https://box:port",
            "https://box:1/apps",
            "https://user@box",
            "https://[::1",
            "https://[::1]1",
            "http://box.example:5001",
            "http://192.0.2.1",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
        let error = parse("http://box.example").unwrap_err();
        assert_eq!(
            error.message,
            "DYNO_HOST=`http://box.example` would send the token in the clear"
        );
    }

    #[test]
    fn a_server_elsewhere_wants_a_token_that_is_never_shown() {
        let home = Path::new("/nowhere");
        let far = |token: &str| Far::new("http://localhost:1", Some(token.into()), None, home);
        assert!(far("").is_err() && far("a b").is_err() && far("a\r\nb").is_err());
        let far = far("secret").unwrap();
        assert_eq!(format!("{far:?}"), "localhost:1");
        assert_eq!(far.authorization(), "Bearer secret");
    }
}
