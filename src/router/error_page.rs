//! The page that a client gets when no dyno has answered.

use std::time::SystemTime;

use super::failure::Failure;
use crate::wire::http::Response;
use crate::wire::http::message::WriteOptions;

/// How the response is to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageOptions<'a> {
    /// The app's name, where one is known.
    pub app: Option<&'a str>,
    /// The request's id, for finding the line in the log.
    pub request_id: Option<&'a str>,
    /// The connection is closed after it.
    pub close: bool,
    /// The client speaks HTTP/1.0, and keeps the connection only if it is told so.
    pub http10: bool,
    /// The request was a `HEAD`.
    pub head_only: bool,
    /// For the field `Date`.
    pub now: SystemTime,
}

/// Appends the response that says what has failed.
pub(super) fn write(failure: &Failure, manner: PageOptions<'_>, out: &mut Vec<u8>) {
    let (title, text) = failure.words();
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>body{{font:1rem/1.5 sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem}}\
         small{{color:#666}}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{}</p>\n",
        marked(text)
    );
    if let Failure::H26 { cause, .. } = failure {
        page += &format!("<p>{}</p>\n", escaped(cause));
    }
    let app = manner.app.map(|app| format!("App {} ", escaped(app)));
    if app.is_some() || !failure.code().is_empty() {
        let description = match failure.code() {
            "" => String::new(),
            code => format!("{code} ({})", escaped(&failure.description())),
        };
        page += &format!(
            "<p><small>{}{description}</small></p>\n",
            app.unwrap_or_default()
        );
    }
    page += "</body>\n</html>\n";

    let mut response = Response::new(failure.status())
        .with("Content-Type", "text/html; charset=utf-8")
        .with("Cache-Control", "no-cache, no-store");
    if !failure.code().is_empty() {
        response = response.with("Dyno-Error", failure.code());
    }
    if let Some(id) = manner.request_id {
        response = response.with("X-Request-Id", id);
    }
    if manner.http10 && !manner.close {
        response = response.with("Connection", "keep-alive");
    }
    let options = WriteOptions {
        now: manner.now,
        close: manner.close,
        head_only: manner.head_only,
    };
    response.body(page.into_bytes()).write(options, out);
}

/// Text in backquotes becomes `<code>`.
fn marked(text: &str) -> String {
    let mut marked = String::new();
    for (at, part) in text.split('`').enumerate() {
        match at % 2 {
            0 => marked += &escaped(part),
            _ => marked += &format!("<code>{}</code>", escaped(part)),
        }
    }
    marked
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(failure: &Failure, head_only: bool) -> String {
        let mut out = Vec::new();
        let manner = PageOptions {
            app: Some("shop"),
            request_id: Some("id"),
            close: false,
            http10: false,
            head_only,
            now: SystemTime::UNIX_EPOCH,
        };
        write(failure, manner, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn it_says_app_and_code_in_words() {
        let text = page(&Failure::H14, false);
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(text.contains("Content-Type: text/html; charset=utf-8\r\n"));
        assert!(text.contains("Dyno-Error: H14\r\n"));
        assert!(text.contains("App shop H14 (No web processes running)"));
        // It may have none.
        let advice = "<code>dyno ps:scale web=1</code> starts one, if the app's Procfile has a line for <code>web</code>.";
        assert!(text.contains(advice), "{text}");
        assert!(page(&Failure::H14, true).ends_with("\r\n\r\n"));
    }

    #[test]
    fn nothing_of_a_request_is_markup() {
        let cause = "<script>".into();
        let text = page(&Failure::H26 { status: 400, cause }, false);
        assert!(text.contains("&lt;script>") && !text.contains("<script>"));
    }
}
