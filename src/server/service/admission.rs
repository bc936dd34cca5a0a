//! Who may ask this server for what: the door that every request comes through.

use jiff::Timestamp;

use super::super::access::Admitted;
use super::super::application::{Request, Via};
use super::super::courtesy;
use super::super::routes;
use super::Service;
use crate::api::{ApiError, Fields};
use crate::wire::http::RequestHead;

impl Service {
    /// Whether a request may be let in; it costs nothing yet. Of one that will not be, the body is not taken: no stranger
    /// has the server hold anything.
    pub(super) fn knows(&self, head: &RequestHead, via: Via) -> bool {
        is_private(via) && self.host.access.knows(head, via, Timestamp::now())
    }

    /// Lets a request in, and remembers what its response is to say.
    pub(super) fn admit(&mut self, request: &Request) -> Result<(), ApiError> {
        if request.via == Via::Socket {
            return Ok(());
        }
        if !is_private(request.via) {
            let message =
                "this port speaks TLS to other hosts, as a token is not to be read on the way";
            return Err(ApiError::forbidden(message).hint("ask by `https://`"));
        }
        let host = &mut self.host;
        let (head, store) = (&request.head, &mut host.store);
        let admitted = host
            .access
            .admit(head, request.via, store, Timestamp::now());
        let remaining = match &admitted {
            Ok(Admitted::Token { remaining }) => Some(*remaining),
            Err(error) if error.id == "rate_limit" => Some(0),
            _ => None,
        };
        let id = courtesy::request_id(request).map_or_else(crate::store::new_id, Ok)?;
        self.courtesy.owe(request, id, remaining);
        match admitted? {
            Admitted::Token { .. } => {
                may_come_from_afar(head)?;
                match head.method() {
                    "POST" => speaks_of_no_folder(&request.body),
                    // Nothing but a POST has such fields; a config var may be called so.
                    _ => Ok(()),
                }
            }
            Admitted::Owner | Admitted::Signed => Ok(()),
        }
    }
}

/// Whether nobody on the way can read along.
fn is_private(via: Via) -> bool {
    match via {
        Via::Socket | Via::Tcp { tls: true, .. } => true,
        Via::Tcp { peer, .. } => peer.ip().to_canonical().is_loopback(),
    }
}

/// Whether a request makes sense from elsewhere than this host, and says which API it means.
fn may_come_from_afar(head: &RequestHead) -> Result<(), ApiError> {
    let path = routes::Path::of(head);
    match (head.method(), &path.parts()[..]) {
        // They speak of folders and processes of this host.
        (_, ["links" | "sessions", ..] | ["apps", _, "repository"])
        | ("POST" | "PUT", ["server", ..]) => {
            let message = format!("{} {} is for this host alone", head.method(), head.path());
            Err(ApiError::forbidden(message).hint("ask at the Unix socket, as `dyno` there does"))
        }
        // Git has its own protocol.
        (_, [repository, ..]) if repository.ends_with(".git") => Ok(()),
        _ if head.fields.all("accept").any(is_version_3) => Ok(()),
        _ => Err(ApiError::new(
            "not_acceptable",
            "the request does not say which version it means",
        )
        .hint("`Accept: application/vnd.heroku+json; version=3`")),
    }
}

/// Fields of ours that name folders of this host: links to an app, and toolchains that its dynos are shown.
const FOLDERS: [&str; 2] = ["folder", "toolchains"];

/// Whether a body names no folder of this host. A token is for apps; whoever has one is not to read what else is here by having it
/// mounted in a dyno.
fn speaks_of_no_folder(body: &[u8]) -> Result<(), ApiError> {
    // What is no object is refused by whoever reads it.
    let Ok(fields) = Fields::parse(body) else {
        return Ok(());
    };
    match fields.names().find(|name| FOLDERS.contains(name)) {
        None => Ok(()),
        Some(name) => Err(ApiError::forbidden(format!(
            "`{name}` names folders of this host, which are nobody else's to choose"
        ))
        .hint("leave it out; at the Unix socket it may be there")),
    }
}

/// Whether an `Accept` means version 3, or a variant of it: `version=3.sdk`.
fn is_version_3(accept: &[u8]) -> bool {
    let accept = String::from_utf8_lossy(accept);
    accept.split(',').any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        let named = parts.next() == Some("application/vnd.heroku+json");
        named
            && parts.any(|part| {
                let version = part.strip_prefix("version=").map(|it| it.trim_matches('"'));
                version.is_some_and(|version| version == "3" || version.starts_with("3."))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_clear_a_token_goes_no_further_than_this_host() {
        for (peer, tls, may) in [
            ("127.0.0.1:9", false, true),
            ("127.8.8.8:9", false, true),
            ("[::1]:9", false, true),
            ("[::ffff:127.0.0.1]:9", false, true),
            ("192.0.2.1:9", false, false),
            ("192.0.2.1:9", true, true),
            ("[2001:db8::1]:9", false, false),
        ] {
            let peer = peer.parse().unwrap();
            assert_eq!(is_private(Via::Tcp { peer, tls }), may, "{peer}");
        }
        assert!(is_private(Via::Socket));
    }

    #[test]
    fn version_3_is_asked_for_in_many_ways() {
        for (accept, wanted) in [
            ("application/vnd.heroku+json; version=3", true),
            ("application/vnd.heroku+json;version=3", true),
            ("application/vnd.heroku+json; version=3.sdk", true),
            ("application/vnd.heroku+json; version=\"3\"", true),
            (
                "text/plain, application/vnd.heroku+json; q=1; version=3.run-inside",
                true,
            ),
            ("application/vnd.heroku+json; version=30", false),
            ("application/vnd.heroku+json", false),
            ("application/json; version=3", false),
            ("*/*", false),
        ] {
            assert_eq!(is_version_3(accept.as_bytes()), wanted, "{accept}");
        }
    }
}
