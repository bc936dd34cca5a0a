//! `dyno auth:token`: tokens, by which clients use the API over TCP.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::context::Context;
use super::output::{say, say_json};
use crate::api::authorization::{Authorization, CreateAuthorization};
use crate::api::{Named, target};
use crate::error::{EXIT_USAGE, UserError, shown, tell};
use crate::model::time_span;
use crate::model::token::Scope;

/// Make a token for the API over TCP, list them, or revoke one
///
/// A token is printed once, to standard output, and cannot be shown again: only its hash is kept. It is for everything that
/// the API can do, unless --scope says less, and for all apps without -a. `heroku` and `dyno` take it from HEROKU_API_KEY and
/// DYNO_API_KEY, `curl` as `-u :TOKEN`.
#[derive(Debug, Args)]
pub struct Token {
    /// What it is for, for the list
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["list", "revoke"])]
    name: Option<String>,
    /// How long it is valid, as 90d or 12h; without this it does not expire
    #[arg(long, value_name = "TIME", conflicts_with_all = ["list", "revoke"])]
    expires: Option<String>,
    /// What it allows, each more than the one before: identity, read, read-protected, run, deploy or admin
    #[arg(long, value_name = "SCOPE", conflicts_with_all = ["list", "revoke"])]
    scope: Option<String>,
    /// List the tokens
    #[arg(long, conflicts_with = "revoke")]
    list: bool,
    /// Revoke the token with this id or name
    #[arg(long, value_name = "ID|NAME")]
    revoke: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// The API's path of the tokens.
const TOKENS: &str = "/oauth/authorizations";

impl Token {
    /// Does what was asked.
    pub fn perform(self, context: &mut Context) -> Result<()> {
        let app = context.app_option().map(str::to_owned);
        if app.is_some() && (self.list || self.revoke.is_some()) {
            let error = UserError::new("-a says which app a new token is for");
            return Err(error.hint("leave it out").exit_code(EXIT_USAGE).into());
        }
        if self.list {
            return self.show(context);
        }
        if let Some(which) = &self.revoke {
            return revoke(which, context);
        }
        let expires_in = self.expires.as_deref().map(seconds).transpose()?;
        let description = self.name;
        let wish = CreateAuthorization {
            description,
            expires_in,
            scope: self.scope.map(|scope| vec![scope]),
            apps: app.map(|app| vec![app]),
        };
        let made: Authorization = context.client()?.post(TOKENS, &wish)?;
        if self.json {
            return say_json(&made);
        }
        tell!(
            "Made the token `{}`, which is shown this once:",
            made.description
        );
        let token = made.access_token.map(|it| it.token).unwrap_or_default();
        Ok(say!("{token}")?)
    }

    fn show(&self, context: &mut Context) -> Result<()> {
        let tokens: Vec<Authorization> = context.client()?.get_list(TOKENS)?;
        if self.json {
            return say_json(&tokens);
        }
        if tokens.is_empty() {
            tell!("There are no tokens; `dyno auth:token` makes one.");
        }
        let day = |time: &crate::api::Time| time.0.strftime("%Y-%m-%d").to_string();
        for token in tokens {
            let used = token
                .used_at
                .as_ref()
                .map_or("never used".to_owned(), |at| {
                    format!("last used {}", at.0.strftime("%Y-%m-%d %H:%M"))
                });
            let left = token.access_token.and_then(|it| it.expires_in);
            let expires = left.map_or(String::new(), |seconds| {
                let left = Duration::from_secs(seconds.max(0).unsigned_abs());
                format!(", expires in {}", time_span::rough(left))
            });
            let name = shown(token.description.as_bytes(), 60);
            say!(
                "{}  {name}  {}  made {}, {used}{expires}",
                token.id,
                allowed(&token.scope, token.apps.as_deref()),
                day(&token.created_at)
            )?;
        }
        Ok(())
    }
}

/// What a token allows: `run for shop`.
fn allowed(scope: &[String], apps: Option<&[Named]>) -> String {
    let scope = scope.first().map_or("", String::as_str);
    let scope = Scope::of_name(scope).map_or(scope, |scope| scope.name());
    let Some(apps) = apps else {
        return scope.to_owned();
    };
    let names: Vec<_> = apps.iter().map(|app| app.name.as_str()).collect();
    match names[..] {
        [] => format!("{scope} for no app any more"),
        _ => format!("{scope} for {}", names.join(", ")),
    }
}

fn revoke(which: &str, context: &mut Context) -> Result<()> {
    let tokens: Vec<Authorization> = context.client()?.get_list(TOKENS)?;
    let meant: Vec<_> = tokens
        .iter()
        .filter(|token| token.id == which || token.description == which)
        .collect();
    let token = match meant[..] {
        [] => {
            let error = UserError::new(format!("no token `{}`", shown(which.as_bytes(), 60)));
            return Err(error
                .hint("`dyno auth:token --list` shows those there are")
                .into());
        }
        [token] => token,
        _ => {
            let error = UserError::new(format!("{} tokens are called `{which}`", meant.len()));
            return Err(error
                .hint("`dyno auth:token --list` shows their ids")
                .into());
        }
    };
    let target = format!("{TOKENS}/{}", target::encode(&token.id));
    let _: Authorization = context.client()?.delete(&target)?;
    tell!("Revoked the token `{}`.", token.description);
    Ok(())
}

fn seconds(text: &str) -> Result<u64> {
    // Less than a second counts as one.
    Ok(time_span::parse(text)?.as_secs().max(1))
}
