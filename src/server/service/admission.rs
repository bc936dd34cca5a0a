//! Who may ask this server for what: every request is admitted here first.

use jiff::Timestamp;

use super::Service;
use crate::api::ask::Ask;
use crate::api::ask::permission::{About, Needs};
use crate::api::ask::policy::OverTcp;
use crate::api::{ApiError, ErrorKind};
use crate::error::shown;
use crate::model::app::App;
use crate::model::release::RELEASE_PHASE;
use crate::model::token::{Scope, Token};
use crate::server::access::Admitted;
use crate::server::access::response_headers;
use crate::server::api_loop::application::Request;
use crate::server::api_loop::via::Via;
use crate::store::StoreError;
use crate::wire::http::RequestHead;

impl Service {
    /// Whether a request may be let in, which is not counted yet. The body of one that may not is not read: the server keeps
    /// nothing in memory for a client that it does not know.
    pub(super) fn knows(&self, head: &RequestHead, via: Via) -> bool {
        is_private(via) && self.records.access.knows(head, via, Timestamp::now())
    }

    /// What a request wants, if it may. The header fields that its response is to have are noted.
    pub(super) fn admit(&mut self, request: &mut Request) -> Result<Ask, ApiError> {
        let head = &request.head;
        let parse = || Ask::parse(head.method(), head.path(), head.query());
        if request.via == Via::Socket {
            return parse();
        }
        if !is_private(request.via) {
            let message =
                "this port speaks TLS to other hosts, as a token is not to be read on the way";
            return Err(ApiError::forbidden(message).hint("ask by `https://`"));
        }
        if is_of_another_page(head) {
            let message = "a page of another address may not change anything here";
            return Err(ApiError::forbidden(message)
                .hint("browsers send `Origin` and `Sec-Fetch-Site`; programs need none"));
        }
        let records = &mut self.records;
        let store = &mut records.store;
        let admitted = records
            .access
            .admit(head, request.via, store, Timestamp::now());
        let remaining = match &admitted {
            Ok(Admitted::Token { remaining, .. }) => Some(*remaining),
            Err(error) if error.kind == ErrorKind::RateLimit => Some(0),
            _ => None,
        };
        let id = response_headers::request_id(request).map_or_else(crate::store::new_id, Ok)?;
        self.response_headers.note(request, id, remaining);
        let (admitted, ask) = (admitted?, parse()?);
        match admitted {
            Admitted::Owner => {}
            Admitted::Signed { token } => {
                // A resource that a weak token may see has the address of an upload, too.
                if let Some(token) = &token {
                    self.may_ask(&ask, token)?;
                }
                request.token = token;
            }
            Admitted::Token { token, .. } => {
                may_come_from_afar(&ask, head)?;
                self.may_ask(&ask, &token)?;
                request.token = Some(token);
            }
        }
        Ok(ask)
    }
}

impl Service {
    /// Checks that a token is good for a request. An app that it is not for is as one that does not exist.
    fn may_ask(&self, ask: &Ask, token: &Token) -> Result<(), ApiError> {
        let needs = ask.needs();
        let scope = match needs {
            Needs::TheSocket => return Err(ApiError::forbidden("this is for no token")),
            Needs::AnyToken => Scope::Identity,
            Needs::Scope(scope) | Needs::AllApps(scope) => scope,
            Needs::OfDyno(_) => Scope::Run,
        };
        // First, so that a client learns nothing of apps that it may not see.
        has_scope(token, scope)?;
        let apps = token.grant.apps.as_ref();
        if apps.is_some() && matches!(needs, Needs::AllApps(_)) {
            let message = format!(
                "{} is for some apps alone, and this is about all",
                quoted(token)
            );
            return Err(ApiError::forbidden(message).hint(ANOTHER));
        }
        let store = &self.records.store;
        let app = match ask.about() {
            About::App(app) => app.to_owned(),
            About::AppOfBuild(build) if apps.is_some() => {
                let app = store.build(build)?.app_id;
                return match token.grant.is_for(&app) {
                    true => Ok(()),
                    false => Err(StoreError::NoBuild(build.to_owned()).into()),
                };
            }
            About::AppOfBuild(_) | About::NoApp => return Ok(()),
        };
        if let Some(apps) = apps {
            let is_for = |found: &App| apps.contains(&found.id);
            if !store.app(&app).as_ref().is_ok_and(is_for) {
                return Err(StoreError::NoApp(app).into());
            }
        }
        let Needs::OfDyno(dyno) = needs else {
            return Ok(());
        };
        let dyno = store.dyno(&store.app(&app)?.id, dyno)?;
        match dyno.formation || dyno.name.process_type == RELEASE_PHASE {
            true => has_scope(token, Scope::Deploy),
            false => Ok(()),
        }
    }
}

/// Where tokens are made.
const ANOTHER: &str = "`dyno auth:token` on the server's host makes another";

/// A token, as its user knows it.
fn quoted(token: &Token) -> String {
    format!("the token `{}`", shown(token.description.as_bytes(), 60))
}

/// Checks that a token has a scope, or a stronger one.
///
/// # Errors
/// `403`, which says which one is missing.
fn has_scope(token: &Token, needed: Scope) -> Result<(), ApiError> {
    let scope = token.grant.scope;
    if scope >= needed {
        return Ok(());
    }
    let message = format!(
        "{} has the scope `{}`, and this needs `{}`",
        quoted(token),
        scope.name(),
        needed.name()
    );
    let hint = format!(
        "`dyno auth:token --scope {}` on the server's host makes one that may",
        needed.name()
    );
    Err(ApiError::forbidden(message).hint(hint))
}

/// Whether no host on the way can read what is sent.
fn is_private(via: Via) -> bool {
    match via {
        Via::Socket | Via::Tcp { tls: true, .. } => true,
        Via::Tcp { peer, .. } => peer.ip().to_canonical().is_loopback(),
    }
}

/// Whether a browser says that a page of another address has asked for a change. The browser may have the token, if its user
/// has typed it once, and would send it along.
fn is_of_another_page(head: &RequestHead) -> bool {
    if matches!(head.method(), "GET" | "HEAD") {
        return false;
    }
    let field = |name| head.fields.get(name);
    // Another port of one host is the same site, and a dyno's.
    let site = field("sec-fetch-site").is_some_and(|it| !matches!(it, "same-origin" | "none"));
    let is_ours = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some() && authority == field("host")
    };
    site || field("origin").is_some_and(|origin| !is_ours(origin))
}

/// Whether a request with a token may come over TCP, and says which API it means.
fn may_come_from_afar(ask: &Ask, head: &RequestHead) -> Result<(), ApiError> {
    match ask.over_tcp() {
        OverTcp::Refused => {
            let message = format!("{} {} is for this host alone", head.method(), head.path());
            Err(ApiError::forbidden(message).hint("ask at the Unix socket, as `dyno` there does"))
        }
        OverTcp::Unversioned => Ok(()),
        OverTcp::Versioned if head.fields.all("accept").any(is_version_3) => Ok(()),
        OverTcp::Versioned => Err(ApiError::new(
            ErrorKind::NotAcceptable,
            "the request does not say which version it means",
        )
        .hint("`Accept: application/vnd.heroku+json; version=3`")),
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
    fn a_page_of_another_address_changes_nothing() {
        use crate::wire::http::{HeadLimits, HeadReader};
        for (method, fields, foreign) in [
            ("POST", "", false),
            ("POST", "Origin: http://127.0.0.1:5001\r\n", false),
            ("POST", "Sec-Fetch-Site: same-origin\r\n", false),
            ("POST", "Sec-Fetch-Site: none\r\n", false),
            ("POST", "Sec-Fetch-Site: cross-site\r\n", true),
            ("DELETE", "Sec-Fetch-Site: same-site\r\n", true),
            ("PATCH", "Origin: http://evil.example\r\n", true),
            ("PUT", "Origin: http://127.0.0.1:8080\r\n", true),
            ("POST", "Origin: null\r\n", true),
            ("GET", "Origin: http://evil.example\r\n", false),
        ] {
            let request =
                format!("{method} /apps HTTP/1.1\r\nHost: 127.0.0.1:5001\r\n{fields}\r\n");
            let mut reader = HeadReader::new(HeadLimits::API);
            let (head, _) = reader.request(request.as_bytes()).unwrap().unwrap();
            assert_eq!(is_of_another_page(&head), foreign, "{request}");
        }
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
