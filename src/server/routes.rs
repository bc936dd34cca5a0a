//! From method and path to the handler.
//!
//! Knows every route but those of dynos, builds and logs, which the server looks for itself when it finds none here.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use jiff::Timestamp;

use super::application::{Application, BodyPlan, Reply, Request};
use super::host::{self, Host};
use super::{apps, authorizations, config, formation, platform, releases, slugs, sources};
use crate::wire::http::{RequestHead, target};

/// By how much a slug may pass its limit before the connection is closed on it, in bytes.
const MARGIN: u64 = 4 << 20;

/// How the body of a request is to be taken: a tarball bit by bit.
pub fn body_plan(host: &Host, head: &RequestHead) -> BodyPlan {
    let path = Path::of(head);
    match (head.method(), &path.parts()[..]) {
        ("PUT", ["apps", _, "slugs", _, "blob"] | ["sources", _, "blob"]) => BodyPlan::Stream {
            // The worker that takes it keeps to the limit itself, and has better words for it.
            limit: host.settings.slug_limit + MARGIN,
        },
        // A pack, and the little that is said before it.
        ("POST", [repository, "git-receive-pack" | "git-upload-pack"])
            if repository.ends_with(".git") =>
        {
            BodyPlan::Stream {
                limit: host.settings.slug_limit + MARGIN,
            }
        }
        _ => BodyPlan::Memory,
    }
}

/// Answers a request, if it is for one of the handlers here.
pub fn route<A: Application + AsMut<Host>>(app: &mut A, request: &Request) -> Option<Reply<A>> {
    let (head, body, now) = (&request.head, &request.body[..], Timestamp::now());
    let path = Path::of(head);
    let host = app.as_mut();
    let answer = match (head.method(), &path.parts()[..]) {
        ("GET", ["apps"]) => apps::list(host, range(head)),
        ("GET", ["users", user, "apps"]) => {
            platform::of_user(host, user, |host| apps::list(host, range(head)))
        }
        ("POST", ["apps"]) => apps::create(host, body, now),
        ("GET", ["apps", app]) => apps::info(host, app),
        ("PATCH", ["apps", app]) => apps::update(host, app, body, now),
        ("DELETE", ["apps", app]) => apps::destroy(host, app),
        ("PUT", ["links"]) => apps::link(host, body, now),
        ("DELETE", ["links"]) => apps::unlink(host, parameter(head, "path").as_deref()),
        ("GET", ["links", "moved"]) => apps::moved(host, parameter(head, "path").as_deref()),
        ("GET", ["links"]) => apps::linked(host, parameter(head, "path").as_deref()),

        ("GET", ["apps", app, "config-vars"]) => config::info(host, app),
        ("PATCH", ["apps", app, "config-vars"]) => config::change(host, app, body, now),

        ("POST", ["apps", app, "slugs"]) => slugs::create(host, request, app, now),
        ("GET", ["apps", app, "slugs", slug]) => slugs::info(host, request, app, slug),
        ("PUT", ["apps", app, "slugs", slug, "blob"]) => {
            return Some(host::reply(slugs::upload(host, request, app, slug)));
        }

        ("POST", ["sources"] | ["apps", _, "sources"]) => sources::create(host, request, now),
        ("PUT", ["sources", source, "blob"]) => {
            return Some(host::reply(sources::upload(host, request, source)));
        }

        ("GET", ["apps", app, "releases"]) => {
            releases::list(host, app, range(head), &host.url(request, ""))
        }
        ("GET", ["apps", app, "releases", release]) => {
            releases::info(host, app, release, &host.url(request, ""))
        }
        ("GET", ["apps", app, "releases", release, "config-vars"]) => {
            releases::config(host, app, release)
        }
        ("POST", ["apps", app, "releases"]) => {
            return Some(host::reply(releases::create(
                host,
                app,
                body,
                host.url(request, ""),
            )));
        }

        ("GET", ["apps", app, "formation"]) => formation::list(host, app),
        ("PATCH", ["apps", app, "formation"]) => formation::scale(host, app, body, now),
        ("GET", ["apps", app, "formation", which]) => formation::info(host, app, which),
        ("PATCH", ["apps", app, "formation", which]) => {
            formation::scale_one(host, app, which, body, now)
        }
        ("GET", ["oauth", "authorizations"]) => authorizations::list(host, now),
        ("POST", ["oauth", "authorizations"]) => authorizations::create(host, body, now),
        ("DELETE", ["oauth", "authorizations", id]) => authorizations::revoke(host, id, now),
        (method, parts) => platform::route(host, method, parts, now)?,
    };
    Some(Reply::Now(host::response(answer)))
}

/// Which part of a list is wanted, as it came.
pub(super) fn range(head: &RequestHead) -> &str {
    head.fields.get("range").unwrap_or_default()
}

/// The parts of a path, decoded.
pub(super) struct Path<'a>(Vec<Cow<'a, str>>);

impl<'a> Path<'a> {
    pub(super) fn of(head: &'a RequestHead) -> Self {
        Self(
            head.path()
                .trim_matches('/')
                .split('/')
                .map(decode)
                .collect(),
        )
    }

    pub(super) fn parts(&self) -> Vec<&str> {
        self.0.iter().map(|part| &**part).collect()
    }
}

/// The parameters of the query: names, and values decoded.
pub(super) fn parameters(head: &RequestHead) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    head.query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, decode(value)))
}

/// A parameter of the query, decoded.
pub(super) fn parameter<'a>(head: &'a RequestHead, name: &str) -> Option<Cow<'a, str>> {
    parameters(head)
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// A part as it was meant. What is not UTF-8 then, or was not encoded right, is left as it came: it will
/// be found to name nothing.
fn decode(text: &str) -> Cow<'_, str> {
    match text.contains('%') {
        true => target::decode(text).map_or(Cow::Borrowed(text), Cow::Owned),
        false => Cow::Borrowed(text),
    }
}
