//! The header fields that Heroku's API has in every response: the request's id, how many more requests may come, and the tag
//! of the content, which is left out if the client has it already.
//!
//! A request is answered at once, later, or by a worker; so what its response is to say is kept until that is written.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::model::uuid::hex;
use crate::server::api_loop::application::{Request, Ticket};
use crate::wire::http::Response;

/// The longest `Request-Id` that is said back, in bytes. The Heroku CLI's grows with each request of a command, to some
/// 7 kB.
const LONGEST_ID: usize = 8_000;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct ResponseHeaders {
    due: HashMap<Ticket, HeadersDue>,
}

/// The header fields that one response is to have.
#[derive(Debug)]
struct HeadersDue {
    request_id: String,
    remaining: Option<u32>,
    /// The tags of content that the client has already; None for a request that changes something.
    has: Option<String>,
    reads: bool,
    /// It is about a repository.
    is_gits: bool,
}

impl ResponseHeaders {
    /// Notes what the response to `request` is to have. With its token `remaining` more requests may come.
    pub fn note(&mut self, request: &Request, request_id: String, remaining: Option<u32>) {
        let head = &request.head;
        let reads = matches!(head.method(), "GET" | "HEAD");
        let has = head.fields.get("if-none-match").filter(|_| reads);
        let headers = HeadersDue {
            request_id,
            remaining,
            has: has.map(str::to_owned),
            reads,
            is_gits: head.path().contains(".git/"),
        };
        self.due.insert(request.ticket, headers);
    }

    /// Adds to a response what was noted for it.
    pub fn add_to(&mut self, ticket: Ticket, response: Response) -> Response {
        match self.due.remove(&ticket) {
            Some(headers) => headers.added_to(response),
            None => response,
        }
    }

    /// How many more requests may come with the token of this one; None without a token.
    pub fn remaining(&self, ticket: Ticket) -> Option<u32> {
        self.due.get(&ticket)?.remaining
    }

    /// There will be no response.
    pub fn forget(&mut self, ticket: Ticket) {
        self.due.remove(&ticket);
    }
}

impl HeadersDue {
    fn added_to(self, mut response: Response) -> Response {
        if self.reads && response.status() == 200 && !response.content().is_empty() {
            let tag = entity_tag(response.content());
            if self.has.is_some_and(|has| names(&has, &tag)) {
                response = Response::new(304);
            }
            response = response.with("ETag", tag);
        }
        if let Some(remaining) = self.remaining {
            response = response.with("RateLimit-Remaining", remaining.to_string());
        }
        // Git asks for its user's token then. A browser would, too, and send it along with whatever any page asks for.
        if response.status() == 401 && self.is_gits {
            response = response.with("WWW-Authenticate", r#"Basic realm="dyno""#);
        }
        response.with("Request-Id", self.request_id)
    }
}

/// The id that a request came with, if it may be said back.
pub fn request_id(request: &Request) -> Option<String> {
    let id = request.head.fields.get("request-id")?;
    let fits =
        (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    fits.then(|| id.to_owned())
}

/// A tag that is another as soon as the content is (RFC 9110 section 8.8.3).
fn entity_tag(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    format!("\"{}\"", hex(&digest[..16]))
}

/// Whether an `If-None-Match` names a tag. It is compared weakly: `W/` makes no difference (RFC 9110 section 13.1.2).
fn names(field: &str, tag: &str) -> bool {
    field.split(',').any(|named| {
        let named = named.trim();
        named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(has: Option<&str>, reads: bool) -> HeadersDue {
        HeadersDue {
            request_id: "1".to_owned(),
            remaining: Some(7),
            has: has.map(str::to_owned),
            reads,
            is_gits: false,
        }
    }

    fn text(response: &Response) -> String {
        let mut bytes = Vec::new();
        let options = crate::wire::http::message::WriteOptions {
            now: std::time::SystemTime::UNIX_EPOCH,
            close: false,
            head_only: false,
        };
        response.write(options, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_the_client_has_already_is_not_sent_again() {
        let content = || Response::json(200, &"x");
        let said = headers(None, true).added_to(content());
        let told = text(&said);
        assert!(
            told.contains("RateLimit-Remaining: 7\r\nRequest-Id: 1\r\n"),
            "{told}"
        );
        let tag = entity_tag(b"\"x\"");
        assert!(told.contains(&format!("ETag: {tag}\r\n")), "{told}");
        for has in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"y\", {tag}"),
            "*".to_owned(),
        ] {
            let said = headers(Some(&has), true).added_to(content());
            assert_eq!((said.status(), said.content()), (304, &b""[..]), "{has}");
            assert!(text(&said).contains(&tag));
        }
        assert_eq!(
            headers(Some("\"y\""), true).added_to(content()).status(),
            200
        );
        // Nor does it matter to what has changed something, or went wrong.
        assert!(!text(&headers(None, false).added_to(content())).contains("ETag"));
        let error = headers(Some("*"), true).added_to(Response::new(404));
        assert_eq!(error.status(), 404);
    }
}
