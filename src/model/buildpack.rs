//! Which buildpacks a source is for, and what they say, by the Buildpack API: the YAML that `bin/release` prints.
//!
//! Buildpacks print little YAML, and always the same: maps in blocks, with names and commands that may be quoted. That is what is
//! read here; anything else is an error. A whole reader of YAML would cost each supervisor memory, as they are all one program.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use crate::error::{UserError, shown};
use crate::model::procfile;
use crate::model::release::ProcessTypes;

/// A buildpack of this program's own.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Files at the root of a source that it may be for. Whether it is, its `bin/detect` says.
    pub signs: &'static [&'static str],
    /// What it makes anew in the source, so that nobody need send it.
    pub makes: &'static [&'static str],
}

/// All of them, in the order in which Heroku looks.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "ruby",
        signs: &["Gemfile"],
        makes: &["vendor/bundle"],
    },
    Kind {
        name: "nodejs",
        signs: &["package.json"],
        makes: &["node_modules"],
    },
    Kind {
        name: "python",
        signs: &[
            "requirements.txt",
            "uv.lock",
            "pyproject.toml",
            "Pipfile",
            "setup.py",
        ],
        makes: &[".venv"],
    },
    Kind {
        name: "php",
        signs: &["composer.json", "index.php"],
        makes: &[],
    },
    Kind {
        name: "go",
        signs: &["go.mod"],
        makes: &[],
    },
    Kind {
        name: "rust",
        signs: &["Cargo.toml"],
        makes: &["target"],
    },
];

/// How many buildpacks an app or a source may name.
pub const MOST: usize = 20;

/// The longest address of one, in bytes.
const LONGEST: usize = 2_000;

/// What the address of a buildpack of Heroku's registry begins with.
const URN: &str = "urn:buildpack:";

/// Where the registry's buildpacks are: `NAMESPACE/NAME.tgz` follows.
const REGISTRY: &str = "https://buildpack-registry.s3.amazonaws.com/buildpacks/";

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

    /// Its address as the API has it.
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

    /// Its address as people write it.
    pub fn name(&self) -> String {
        let url = self.url();
        url.strip_prefix(URN).unwrap_or(&url).to_owned()
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

/// The buildpacks that a source names: in `app.json`, else in `.buildpacks`.
///
/// # Errors
/// A file is not valid, names too many or what is none, or a folder of the host, which is not the source's to name.
pub fn of_source(
    app_json: Option<&[u8]>,
    dot_buildpacks: Option<&[u8]>,
) -> Result<Vec<Buildpack>, UserError> {
    let mut addresses = Vec::new();
    if let Some(text) = app_json {
        let app: serde_json::Value = serde_json::from_slice(text).map_err(|error| {
            UserError::new(format!("app.json is not valid: {error}")).hint(
                "it is a JSON object; of it a build reads `buildpacks`, an array of `{\"url\": …}`",
            )
        })?;
        let named = app.get("buildpacks").and_then(serde_json::Value::as_array);
        for pack in named.into_iter().flatten() {
            let url = pack.get("url").and_then(serde_json::Value::as_str);
            addresses.push(url.unwrap_or_default().to_owned());
        }
    }
    if let (true, Some(text)) = (addresses.is_empty(), dot_buildpacks) {
        let text = String::from_utf8_lossy(text);
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        addresses.extend(lines.map(str::to_owned));
    }
    let packs = parse_all(&addresses)?;
    if let Some(folder) = packs.iter().find(|it| matches!(it, Buildpack::Folder(_))) {
        let why = format!(
            "the source names a folder of this host, `{}`",
            folder.name()
        );
        return Err(UserError::new(why).hint("`dyno buildpacks:add FOLDER` gives it to the app"));
    }
    Ok(packs)
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

/// Manifests of which no buildpack here makes anything.
const UNKNOWN: &[(&str, &str)] = &[
    ("pom.xml", "Java (Maven)"),
    ("build.gradle", "Java (Gradle)"),
    ("build.gradle.kts", "Kotlin (Gradle)"),
    ("build.sbt", "Scala"),
    ("project.clj", "Clojure"),
    ("mix.exs", "Elixir"),
    ("Package.swift", "Swift"),
];

/// The buildpacks that may be for a source that has these files at its root, the likeliest first.
///
/// # Errors
/// When there is a manifest that none is for: what it names would be missing without a word.
pub fn candidates(has: impl Fn(&str) -> bool) -> Result<Vec<&'static Kind>, UserError> {
    let meant = |kind: &&Kind| kind.signs.iter().any(|sign| has(sign));
    let kinds: Vec<_> = KINDS.iter().filter(meant).collect();
    let unknown = UNKNOWN.iter().find(|(manifest, _)| has(manifest));
    match unknown {
        Some((manifest, language)) if kinds.is_empty() => {
            let why = format!("nothing here builds {language}, which `{manifest}` is of");
            Err(UserError::new(why).hint(
                "build it yourself and deploy what runs: `dyno builder none` takes the files as they are",
            ))
        }
        _ => Ok(kinds),
    }
}

/// The key of the process types that an app has by default.
const TYPES: &str = "default_process_types";

/// The default process types of a buildpack, from what its `bin/release` has printed. Nothing, and `{}`, are none; other keys are
/// passed over.
///
/// # Errors
/// A line is none of that kind, or has a name or a command that a Procfile could not have.
pub fn default_types(yaml: &str) -> Result<ProcessTypes, UserError> {
    let (mut types, mut is_within) = (ProcessTypes::new(), false);
    for line in yaml.lines() {
        let line = line.strip_prefix("---").unwrap_or(line);
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') || text == "{}" {
            continue;
        }
        let is_below = line.starts_with([' ', '\t', '-']);
        if is_below && !is_within {
            continue;
        }
        let bad = || {
            let line = shown(text.as_bytes(), 100);
            UserError::new(format!(
                "the buildpack's bin/release says what cannot be read: `{line}`"
            ))
            .hint("it prints YAML: `default_process_types:`, and below it `name: command`")
        };
        let (key, value) = entry(text).ok_or_else(bad)?;
        if !is_below {
            is_within = key == TYPES;
            if is_within && !matches!(value.as_str(), "" | "{}" | "~" | "null") {
                return Err(bad());
            }
            continue;
        }
        // As the Procfile's own lines are checked.
        let parsed = procfile::parse(format!("{key}: {value}").as_bytes());
        for it in parsed.map_err(|_| bad())? {
            types.insert(it.name, it.command);
        }
    }
    Ok(types)
}

/// The key and the value of `key: value`, both without quotes.
fn entry(text: &str) -> Option<(String, String)> {
    let (key, value) = match text.chars().next()? {
        quote @ ('"' | '\'') => {
            let (key, rest) = quoted(text, quote)?;
            (key, rest.trim_start().strip_prefix(':')?)
        }
        _ => {
            let (key, value) = text.split_once(':')?;
            (key.trim_end().to_owned(), value)
        }
    };
    let is_apart = value.is_empty() || value.starts_with([' ', '\t']);
    let value = value.trim();
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (value, rest) = quoted(value, quote)?;
            rest.trim().is_empty().then_some(value)?
        }
        // Anchors, blocks of text and the like; a list is of another key.
        Some('&' | '*' | '|' | '>' | '!' | '%' | '@' | '`') => return None,
        _ => value.to_owned(),
    };
    is_apart.then_some((key, value))
}

/// The text in quotes at the beginning, and what comes after it. In double quotes a backslash is before a quote or a backslash; in
/// single ones a quote is written twice.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut found = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        let next = letters.peek().map(|(_, next)| *next);
        match letter {
            '\\' if quote == '"' => match next? {
                it @ ('"' | '\\') => {
                    found.push(it);
                    letters.next();
                }
                _ => return None,
            },
            '\'' if quote == '\'' && next == Some(quote) => {
                found.push(quote);
                letters.next();
            }
            _ if letter == quote => return Some((found, text.get(at.saturating_add(1)..)?)),
            _ => found.push(letter),
        }
    }
    None
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
        assert!(of_source(Some(b"{"), None).is_err());
        assert!(of_source(None, Some(b"/etc")).is_err());
        assert!(of_source(Some(br#"{"buildpacks":[{}]}"#), None).is_err());
    }

    #[test]
    fn a_source_may_be_for_several_and_a_manifest_for_none_is_no_source() {
        let names = |files: &[&str]| -> Vec<&str> {
            let kinds = candidates(|name| files.contains(&name)).unwrap();
            kinds.iter().map(|kind| kind.name).collect()
        };
        assert!(names(&[]).is_empty());
        assert_eq!(
            names(&["requirements.txt", "package.json"]),
            ["nodejs", "python"]
        );
        assert_eq!(names(&["package.json", "mix.exs"]), ["nodejs"]);
        let error = candidates(|name| name == "mix.exs").unwrap_err();
        assert!(error.message.contains("Elixir"), "{error}");
    }

    #[test]
    fn process_types_are_read_from_what_buildpacks_print() {
        let types = |yaml: &str| -> Vec<(String, String)> {
            let types = default_types(yaml).unwrap();
            let mut types: Vec<_> = types
                .iter()
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .collect();
            types.sort();
            types
        };
        for none in [
            "",
            "--- {}\n",
            "{}",
            "---\naddons: []\n",
            "---\nconfig_vars: {}\ndefault_process_types:\n",
            "---\naddons:\n- heroku-postgresql:hobby\n  - b\ndefault_process_types: {}\n",
        ] {
            assert!(types(none).is_empty(), "{none}");
        }
        let yaml = "---\naddons:\n- heroku-postgresql\ndefault_process_types:\n  web: \"bin/a -p $PORT\"\n  \
                    rake: bundle exec rake\n  'it': 'echo ''a: b'''\nconfig_vars:\n  A: b\n";
        assert_eq!(
            types(yaml),
            [
                ("it", "echo 'a: b'"),
                ("rake", "bundle exec rake"),
                ("web", "bin/a -p $PORT")
            ]
            .map(|(name, command)| (name.to_owned(), command.to_owned()))
        );
        for bad in [
            "default_process_types: [web]",
            "default_process_types:\n  a b: c\n",
            "default_process_types:\n  web: |\n    a\n",
            "default_process_types:\n  web: \"a\n",
            "default_process_types:\n  web:a\n",
        ] {
            assert!(default_types(bad).is_err(), "{bad}");
        }
    }
}
