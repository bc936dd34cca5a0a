//! `dyno open`: prints and opens the address of an app.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::Result;
use clap::Args;

use super::address::tunnel;
use super::context::{Context, app_path};
use super::output::say;
use crate::api::app::App;
use crate::cli::terminal;
use crate::error::{UserError, tell};

/// The longest path that is opened, in bytes.
const MAX_PATH: usize = 4_000;

/// Show the app's address, and open it in a browser if there is one
///
/// The browser is asked for with xdg-open, and only when standard output is a terminal.
#[derive(Debug, Args)]
pub struct Open {
    /// What is to be visited there, as `/login?next=/`
    #[arg(value_name = "PATH")]
    path: Option<String>,
}

impl Open {
    /// Prints the address.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app()?;
        let client = context.client()?;
        let app: App = client.get(&app_path(&app, ""))?;
        let path = self.path.as_deref().unwrap_or_default();
        let address = address(&app.name, app.web_url.as_deref(), path)?;
        say!("{address}")?;
        if let Some(how) = tunnel(context, &address) {
            tell!("{how}");
        }
        if terminal::is_terminal(rustix::stdio::stdout()) {
            show("xdg-open", &address);
        }
        Ok(())
    }
}

/// The address of an app that is to be visited at `web_url`: `http://shop.localhost:8080/login`.
fn address(app: &str, web_url: Option<&str>, path: &str) -> Result<String, UserError> {
    // Any other text of a server must not be opened.
    let Some(web_url) = web_url.filter(|url| url.starts_with("http")) else {
        return Err(
            UserError::new(format!("no router runs, so `{app}` cannot be visited"))
                .hint("`dyno server:status` shows where it listens once one does"),
        );
    };
    if path.len() > MAX_PATH {
        return Err(
            UserError::new(format!("the path is {} bytes long", path.len()))
                .hint(format!("at most {MAX_PATH}")),
        );
    }
    let path = encoded(path.strip_prefix('/').unwrap_or(path));
    Ok(format!("{web_url}{path}"))
}

/// A path as a browser would send it: characters that no URL may have are percent-encoded, and those with a meaning
/// (`?`, `#`, `%20`) stay (RFC 3986 appendix A).
fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// Has a program open the address, without waiting for it. A missing program is no error, since the address is printed.
fn show(program: &str, address: &str) {
    let _ = Command::new(program)
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at this terminal must not reach it.
        .process_group(0)
        .spawn();
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn an_address_is_made_of_app_port_and_path() {
        let of = |path: &str| address("shop", Some("http://shop.localhost:8080/"), path).unwrap();
        for (path, expected) in [
            ("", "http://shop.localhost:8080/"),
            ("/", "http://shop.localhost:8080/"),
            ("login", "http://shop.localhost:8080/login"),
            (
                "/a/b?c=d&e=%20#f",
                "http://shop.localhost:8080/a/b?c=d&e=%20#f",
            ),
            ("a b\n\"ü", "http://shop.localhost:8080/a%20b%0A%22%C3%BC"),
            ("//evil.example", "http://shop.localhost:8080//evil.example"),
        ] {
            assert_eq!(of(path), expected);
        }
    }

    #[test]
    fn without_a_router_there_is_advice() {
        let error = address("shop", None, "").unwrap_err();
        assert_eq!(error.message, "no router runs, so `shop` cannot be visited");
        assert!(
            error
                .hint
                .is_some_and(|hint| hint.contains("dyno server:status"))
        );
        assert!(address("shop", Some("file:///etc/passwd"), "").is_err());
    }

    #[test]
    fn a_path_to_open_has_a_bound() {
        let of = |length| address("shop", Some("http://shop.localhost/"), &"x".repeat(length));
        assert!(of(MAX_PATH).is_ok());
        let error = of(MAX_PATH + 1).unwrap_err();
        assert_eq!(error.message, "the path is 4001 bytes long");
        assert_eq!(error.hint.as_deref(), Some("at most 4000"));
    }

    #[test]
    fn a_program_is_given_the_address() {
        let folder = tempfile::tempdir().unwrap();
        let address = folder.path().join("address");
        show("touch", address.to_str().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !address.exists() {
            assert!(Instant::now() < deadline, "nothing was shown");
            std::thread::yield_now();
        }
    }

    #[test]
    fn that_nothing_can_show_an_address_is_no_failure() {
        show("/nonexistent/xdg-open", "http://shop.localhost:8080/");
    }
}
