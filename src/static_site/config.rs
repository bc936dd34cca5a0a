//! `static.json`: the keys of Heroku's buildpack of that name that say which file answers what.
//!
//! Source: the README of heroku-buildpack-static.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Component, Path};

use globset::{Glob, GlobBuilder, GlobMatcher};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{UserError, shown};

/// The file's name, and its largest size in bytes.
pub const CONFIG: (&str, u64) = ("static.json", 256 * 1024);

/// How many entries each of its maps may have.
const MOST: usize = 1_000;

/// Keys without which a site would show what it should not, or lack what it has.
const NEEDED: &[(&str, &str)] = &[
    ("basic_auth", "anybody would see the site"),
    ("proxies", "what is behind them would be missing"),
];

/// Keys that mean nothing here: how nginx logs, and in which encoding its files are.
const PASSED_OVER: &[&str] = &[
    "logging",
    "debug",
    "encoding",
    "resolver",
    "worker_connections",
];

/// What a site says of itself.
#[derive(Debug, Default)]
pub struct SiteConfig {
    /// The folder of its files, below that of `static.json`.
    pub root: Option<String>,
    /// Whether `/about` is `about.html`.
    pub clean_urls: bool,
    /// Whether a request that came over HTTP is sent to HTTPS.
    pub https_only: bool,
    /// The host that all requests are sent to.
    pub canonical_host: Option<String>,
    /// The file that says that there is none.
    pub error_page: Option<String>,
    /// What is not there is answered with these files, the first that fits.
    pub routes: Vec<(Pattern, String)>,
    /// Paths that are elsewhere.
    pub redirects: Vec<(String, Redirect)>,
    /// Header fields of responses to these paths.
    pub headers: Vec<(Pattern, Vec<(String, String)>)>,
    /// Keys that are not known.
    pub unknown: Vec<String>,
}

/// Where a path is instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// An address, or another path.
    pub url: String,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// A glob of paths: `/**`, `/assets/*.js`; of `*` no slash is part.
#[derive(Debug, Clone)]
pub struct Pattern(GlobMatcher);

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let glob: Result<Glob, _> = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.map_err(|error| {
            format!(
                "the pattern `{}`: {}",
                shown(text.as_bytes(), 100),
                error.kind()
            )
        })?;
        Ok(Self(glob.compile_matcher()))
    }

    /// Whether a path is meant, which begins with a slash.
    pub fn fits(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

/// A JSON object in its order.
struct Ordered<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Ordered<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for InOrder<V> {
            type Value = Ordered<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if entries.len() == MOST {
                        return Err(serde::de::Error::custom(format!(
                            "more than {MOST} entries"
                        )));
                    }
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

#[derive(serde::Deserialize)]
struct SentRedirect {
    url: String,
    status: Option<u16>,
}

impl SiteConfig {
    /// Reads the text of a `static.json`.
    ///
    /// # Errors
    /// It is not valid, or has a key without which the site would be another.
    pub fn parse(text: &[u8]) -> Result<Self, UserError> {
        let bad = |why: String| {
            UserError::new(format!("static.json is not valid: {why}"))
                .hint("it is a JSON object with `root`, `clean_urls`, `routes`, `redirects`, `headers`, `error_page`, `https_only`, `canonical_host`")
        };
        if text.len() as u64 > CONFIG.1 {
            return Err(bad(format!("it has more than {} KB", CONFIG.1 >> 10)));
        }
        let keys: Ordered<&serde_json::value::RawValue> =
            serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        let mut config = Self::default();
        for (key, value) in keys.0 {
            config
                .set(&key, value.get())
                .map_err(|why| bad(format!("`{}`: {why}", shown(key.as_bytes(), 100))))?;
            if let Some((key, then)) = NEEDED.iter().find(|(needed, _)| *needed == key) {
                return Err(UserError::new(format!(
                    "static.json has `{key}`, which dyno does not do: {then}"
                ))
                .hint("serve the site by a program of your own, with a Procfile"));
            }
        }
        Ok(config)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "root" => self.root = Some(below(&of::<String>(value)?)?),
            "clean_urls" => self.clean_urls = of(value)?,
            "https_only" => self.https_only = of(value)?,
            "canonical_host" => self.canonical_host = Some(header_value(of(value)?)?),
            "error_page" => self.error_page = Some(below(&of::<String>(value)?)?),
            "routes" => {
                for (pattern, file) in of::<Ordered<String>>(value)?.0 {
                    self.routes.push((Pattern::parse(&pattern)?, below(&file)?));
                }
            }
            "redirects" => {
                for (path, to) in of::<Ordered<SentRedirect>>(value)?.0 {
                    let status = to.status.unwrap_or(302);
                    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                        return Err(format!("{status} is no status of a redirect"));
                    }
                    let url = header_value(to.url)?;
                    self.redirects.push((path, Redirect { url, status }));
                }
            }
            "headers" => {
                for (pattern, fields) in of::<Ordered<Ordered<String>>>(value)?.0 {
                    let mut checked = Vec::new();
                    for (name, value) in fields.0 {
                        let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
                        if name.is_empty() || !name.chars().all(fits) {
                            let name = shown(name.as_bytes(), 60);
                            return Err(format!("`{name}` is no name of a header field"));
                        }
                        checked.push((name, header_value(value)?));
                    }
                    self.headers.push((Pattern::parse(&pattern)?, checked));
                }
            }
            _ if NEEDED.iter().any(|(needed, _)| *needed == key) => {}
            _ if PASSED_OVER.contains(&key) => {
                let _: IgnoredAny = of(value)?;
            }
            _ => self.unknown.push(shown(key.as_bytes(), 60)),
        }
        Ok(())
    }
}

fn of<'de, T: Deserialize<'de>>(value: &'de str) -> Result<T, String> {
    serde_json::from_str(value).map_err(|error| error.to_string())
}

/// A path below a folder, without a slash at its ends.
fn below(path: &str) -> Result<String, String> {
    let path = path.trim_matches('/');
    let is_below = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    match is_below {
        true => Ok(path.to_owned()),
        false => Err(format!(
            "`{}` is not below the site",
            shown(path.as_bytes(), 100)
        )),
    }
}

fn header_value(text: String) -> Result<String, String> {
    match text.chars().any(|c| c.is_control() || !c.is_ascii()) {
        true => Err(format!(
            "`{}` cannot be in a header field",
            shown(text.as_bytes(), 100)
        )),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_keys_are_read_in_their_order() {
        let config = SiteConfig::parse(
            br#"{"root":"dist/","clean_urls":true,"https_only":false,"error_page":"/errors/404.html",
                "routes":{"/z/**":"z.html","/**":"/index.html"},
                "redirects":{"/old":{"url":"/new","status":301},"/x":{"url":"https://a/"}},
                "headers":{"/**":{"X-A":"b"}},"logging":{"access":false},"odd":[1]}"#,
        )
        .unwrap();
        assert_eq!(config.root.as_deref(), Some("dist"));
        assert!(config.clean_urls && !config.https_only);
        assert_eq!(config.error_page.as_deref(), Some("errors/404.html"));
        let files: Vec<_> = config.routes.iter().map(|(_, file)| &**file).collect();
        assert_eq!(files, ["z.html", "index.html"]);
        assert!(config.routes[0].0.fits("/z/a/b") && !config.routes[0].0.fits("/y"));
        assert_eq!(config.redirects[1].1.status, 302);
        assert!(config.headers[0].0.fits("/a/b.js"));
        assert_eq!(config.unknown, ["odd"]);
        let star = Pattern::parse("/assets/*.js").unwrap();
        assert!(star.fits("/assets/a.js") && !star.fits("/assets/b/a.js"));
    }

    #[test]
    fn what_would_make_another_site_is_an_error() {
        for (text, word) in [
            ("[]", "not valid"),
            (r#"{"root":"../x"}"#, "not below"),
            (r#"{"root":1}"#, "`root`"),
            (r#"{"routes":{"/[":"a"}}"#, "the pattern"),
            (
                r#"{"redirects":{"/a":{"url":"/b","status":200}}}"#,
                "no status",
            ),
            (
                r#"{"redirects":{"/a":{"url":"/b\r\nX: y"}}}"#,
                "header field",
            ),
            (r#"{"headers":{"/":{"a b":"c"}}}"#, "no name"),
            (r#"{"basic_auth":true}"#, "anybody would see"),
            (r#"{"proxies":{}}"#, "`proxies`"),
        ] {
            let error = SiteConfig::parse(text.as_bytes()).unwrap_err();
            assert!(error.message.contains(word), "{text}: {error}");
        }
    }
}
