//! Buildpacks that are named: what an address means, and which ones a source names.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use serde_json::Value;

use super::{KINDS, Kind};
use crate::error::{UserError, shown};

/// How many buildpacks an app or a source may name.
pub const MOST: usize = 20;

/// The longest address of one, in bytes.
const LONGEST: usize = 2_000;

/// What the address of a buildpack of Heroku's registry begins with.
const URN: &str = "urn:buildpack:";

/// Where the registry's buildpacks are: `NAMESPACE/NAME.tgz` follows.
const REGISTRY: &str = "https://buildpack-registry.s3.amazonaws.com/buildpacks/";

/// What is shown in place of the user and the password of a URL.
const REDACTED: &str = "REDACTED";

/// The namespace of this program's own.
const OWN: &str = "dyno";

/// A buildpack that is named, by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Buildpack {
    /// One of this program's own: `dyno/python`.
    Own(&'static Kind),
    /// One of Heroku's registry: `heroku/ruby`, `urn:buildpack:heroku/ruby`.
    Registered(String),
    /// A gzipped tarball.
    Tarball(String),
    /// A git repository.
    Git {
        /// Where it is.
        url: String,
        /// The branch, tag or commit that is meant.
        reference: Option<String>,
    },
    /// A folder of this host.
    Folder(String),
}

/// How a build's dyno gets a buildpack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetch<'a> {
    /// It is in this program.
    Own(&'static Kind),
    /// It is copied.
    Folder(&'a str),
    /// It downloads a tarball.
    Tarball(String),
    /// It clones a repository.
    Git(&'a str, Option<&'a str>),
}

impl Buildpack {
    /// Reads an address.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(address: &str) -> Result<Self, UserError> {
        let bad = |why: &str| {
            let address = shown(address.as_bytes(), 100);
            UserError::new(format!("`{address}` is no buildpack: {why}")).hint(
                "it is NAMESPACE/NAME as in `heroku/ruby`, the URL of a .tgz or of a git repository (with #BRANCH), or a folder of this host",
            )
        };
        if address.is_empty() || address.len() > LONGEST {
            return Err(bad("an address has 1 to 2,000 bytes"));
        }
        // They go to the command lines of curl and git.
        if address.starts_with('-') || address.chars().any(|c| c.is_control() || c == ' ') {
            return Err(bad(
                "an address has no spaces, and does not begin with a dash",
            ));
        }
        let name = address.strip_prefix(URN).unwrap_or(address);
        let is_part = |part: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            !part.is_empty() && part.chars().all(fits) && !part.starts_with('.')
        };
        if let Some((namespace, name)) = name.split_once('/')
            && is_part(namespace)
            && is_part(name)
        {
            if namespace != OWN {
                return Ok(Self::Registered(format!("{namespace}/{name}")));
            }
            let kind = KINDS.iter().find(|kind| kind.name == name);
            return kind.map(Self::Own).ok_or_else(|| {
                let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
                bad(&format!("dyno's own are {}", names.join(", ")))
            });
        }
        if address.starts_with('/') {
            return Ok(Self::Folder(address.to_owned()));
        }
        let is_web = ["https://", "http://"]
            .iter()
            .any(|it| address.starts_with(it));
        let path = address.split(['?', '#']).next().unwrap_or_default();
        if is_web && [".tgz", ".tar.gz"].iter().any(|end| path.ends_with(end)) {
            return Ok(Self::Tarball(address.to_owned()));
        }
        let is_git = is_web
            || ["git://", "ssh://", "git@"]
                .iter()
                .any(|it| address.starts_with(it));
        if !is_git {
            return Err(bad("that is no address"));
        }
        let (url, reference) = match address.split_once('#') {
            Some((url, reference)) => (url, Some(reference)),
            None => (address, None),
        };
        if reference.is_some_and(|it| it.is_empty() || it.starts_with('-')) {
            return Err(bad("what follows the # is a branch, a tag or a commit"));
        }
        Ok(Self::Git {
            url: url.to_owned(),
            reference: reference.map(str::to_owned),
        })
    }

    /// Its address, as it is stored and fetched: one of the web may have a password in it.
    pub fn url(&self) -> String {
        match self {
            Self::Own(kind) => format!("{URN}{OWN}/{}", kind.name),
            Self::Registered(name) => format!("{URN}{name}"),
            Self::Tarball(url) => url.clone(),
            Self::Git {
                url,
                reference: Some(reference),
            } => format!("{url}#{reference}"),
            Self::Git { url, .. } => url.clone(),
            Self::Folder(path) => path.clone(),
        }
    }

    /// Its address as the API has it: without a user and a password.
    pub fn public_url(&self) -> String {
        without_user(self.url())
    }

    /// Its address as people write it, without a user and a password.
    pub fn name(&self) -> String {
        let url = self.public_url();
        url.strip_prefix(URN).unwrap_or(&url).to_owned()
    }

    /// The folder of this host that it is.
    pub fn folder(&self) -> Option<&str> {
        match self {
            Self::Folder(path) => Some(path),
            _ => None,
        }
    }

    /// How a build's dyno gets it.
    pub fn fetch(&self) -> Fetch<'_> {
        match self {
            Self::Own(kind) => Fetch::Own(kind),
            Self::Registered(name) => Fetch::Tarball(format!("{REGISTRY}{name}.tgz")),
            Self::Tarball(url) => Fetch::Tarball(url.clone()),
            Self::Git { url, reference } => Fetch::Git(url, reference.as_deref()),
            Self::Folder(path) => Fetch::Folder(path),
        }
    }
}

/// A URL with `REDACTED` in place of what is before the `@` of its host. That of ssh names no more than a user, who belongs to the
/// address.
fn without_user(url: String) -> String {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| *scheme != "ssh") else {
        return url;
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match host.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{REDACTED}@{host}{path}"),
        None => url,
    }
}

/// The buildpacks that a source names: in `app.json`, else in `.buildpacks`.
///
/// # Errors
/// One of them is none, or there are too many, or it is a folder of the host, which is not the source's to name.
pub fn of_source(
    app_json: Option<&[u8]>,
    dot_buildpacks: Option<&[u8]>,
) -> Result<Vec<Buildpack>, UserError> {
    let mut addresses = app_json.map(addresses_in).unwrap_or_default();
    if let (true, Some(text)) = (addresses.is_empty(), dot_buildpacks) {
        let text = String::from_utf8_lossy(text);
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        addresses.extend(lines.map(str::to_owned));
    }
    let packs = parse_all(&addresses)?;
    if let Some(folder) = packs.iter().find_map(Buildpack::folder) {
        let why = format!("the source names a folder of this host, `{folder}`");
        return Err(UserError::new(why).hint("`dyno buildpacks:add FOLDER` gives it to the app"));
    }
    Ok(packs)
}

/// Whether this `app.json` names buildpacks, which many do not.
pub fn names_buildpacks(app_json: &[u8]) -> bool {
    !addresses_in(app_json).is_empty()
}

/// The addresses in the `buildpacks` of an `app.json`: an array of `{"url": ADDRESS}`. A file of that name that is not of that kind
/// belongs to something else.
fn addresses_in(app_json: &[u8]) -> Vec<String> {
    let app: Value = serde_json::from_slice(app_json).unwrap_or_default();
    let named = app.get("buildpacks").and_then(Value::as_array);
    let url = |pack: &Value| {
        pack.get("url")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    named.into_iter().flatten().map(url).collect()
}

/// Reads addresses, in their order.
///
/// # Errors
/// One is none, or there are too many.
pub fn parse_all(addresses: &[String]) -> Result<Vec<Buildpack>, UserError> {
    if addresses.len() > MOST {
        let why = format!("{} buildpacks are too many", addresses.len());
        return Err(UserError::new(why).hint(format!("{MOST} are allowed")));
    }
    addresses.iter().map(|it| Buildpack::parse(it)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_a_buildpack_comes_from() {
        for (address, url, name) in [
            ("heroku/ruby", "urn:buildpack:heroku/ruby", "heroku/ruby"),
            ("urn:buildpack:a/b-c", "urn:buildpack:a/b-c", "a/b-c"),
            ("dyno/python", "urn:buildpack:dyno/python", "dyno/python"),
            (
                "https://a/b.tgz?x=1",
                "https://a/b.tgz?x=1",
                "https://a/b.tgz?x=1",
            ),
            (
                "https://a/b.git#v1/x",
                "https://a/b.git#v1/x",
                "https://a/b.git#v1/x",
            ),
            ("git@a:b/c", "git@a:b/c", "git@a:b/c"),
            ("/opt/pack", "/opt/pack", "/opt/pack"),
        ] {
            let pack = Buildpack::parse(address).unwrap();
            assert_eq!((&*pack.url(), &*pack.name()), (url, name));
            assert_eq!(Buildpack::parse(&pack.url()).unwrap(), pack);
        }
        assert!(matches!(
            Buildpack::parse("https://a/b.tar.gz"),
            Ok(Buildpack::Tarball(_))
        ));
        let git = Buildpack::parse("https://github.com/a/b#main").unwrap();
        assert_eq!(
            git.fetch(),
            Fetch::Git("https://github.com/a/b", Some("main"))
        );
        let registered = Buildpack::parse("heroku/go").unwrap();
        assert_eq!(
            registered.fetch(),
            Fetch::Tarball(format!("{REGISTRY}heroku/go.tgz"))
        );
        for bad in [
            "",
            "ruby",
            "dyno/cobol",
            "--upload-pack=x",
            "https://a/b#-x",
            "https://a b",
            "file:///etc",
            "ext::sh",
            "../a",
            "a/b/c",
            "https://a/b#",
        ] {
            assert!(Buildpack::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nobody_is_shown_a_password() {
        for (address, name) in [
            ("https://u:p@a/b.git#v", "https://REDACTED@a/b.git#v"),
            ("https://token@a/b.tgz?x=@", "https://REDACTED@a/b.tgz?x=@"),
            ("https://a:1/b@c", "https://a:1/b@c"),
            ("https://u@v@a?x", "https://REDACTED@a?x"),
            ("ssh://git@a/b", "ssh://git@a/b"),
            ("git@a:b/c", "git@a:b/c"),
        ] {
            let pack = Buildpack::parse(address).unwrap();
            assert_eq!(pack.name(), name);
            assert_eq!(pack.url(), address);
        }
    }

    #[test]
    fn a_source_names_its_buildpacks_in_one_of_two_files() {
        let names = |json: Option<&str>, dot: Option<&str>| -> Vec<String> {
            let packs = of_source(json.map(str::as_bytes), dot.map(str::as_bytes)).unwrap();
            packs.iter().map(Buildpack::name).collect()
        };
        let dot = Some("# ours\n\nheroku/nodejs\n https://a/b#c \n");
        assert_eq!(names(None, dot), ["heroku/nodejs", "https://a/b#c"]);
        assert_eq!(names(Some("{}"), dot).len(), 2);
        let json = Some(r#"{"buildpacks":[{"url":"heroku/go"}]}"#);
        assert_eq!(names(json, dot), ["heroku/go"]);
        assert!(names(None, None).is_empty());
        assert!(of_source(None, Some(b"/etc")).is_err());
        // An app.json of something else.
        for other in ["{", "[]", "null", r#"{"buildpacks":{"a":1}}"#] {
            assert_eq!(names(Some(other), dot).len(), 2, "{other}");
            assert!(!names_buildpacks(other.as_bytes()));
        }
        assert!(names_buildpacks(br#"{"buildpacks":[{"url":"a"}]}"#));
        assert!(of_source(Some(br#"{"buildpacks":[{}]}"#), None).is_err());
    }
}
