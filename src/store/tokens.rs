//! Table `tokens`: who may use the API from elsewhere than the Unix socket.

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Row, params};

use super::columns::Time;
use super::{Result, Store, StoreError, new_id};
use crate::error::UserError;
use crate::kernel::random;
use crate::model::token::{Scope, Secret, Token, TokenGrant, TokenHash};
use crate::model::uuid::hex;

/// The most tokens: each request is compared with all of them.
pub const MOST: usize = 1_000;

/// The description of a token that is still to be made.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// What it is for.
    pub description: &'a str,
    /// What it is good for.
    pub grant: TokenGrant,
    /// When it expires; None: never.
    pub expires_at: Option<Timestamp>,
    /// The id of the token with which it is made, and with which it ends.
    pub parent: Option<&'a str>,
}

impl Store {
    /// Creates a token. The secret is not stored, and cannot be shown again.
    ///
    /// # Errors
    /// When there are [`MOST`] already, or the state cannot be written.
    pub fn create_token(&mut self, new: NewToken<'_>, now: Timestamp) -> Result<(Token, Secret)> {
        let NewToken {
            description,
            grant,
            expires_at,
            parent,
        } = new;
        let secret = Secret::of(random::bytes()?);
        let token = self.write(|transaction| {
            transaction
                .prepare_cached("DELETE FROM tokens WHERE expires_at <= ?1")?
                .execute([Time(now)])?;
            let count: u32 = transaction
                .prepare_cached("SELECT count(*) FROM tokens")?
                .query_row([], |row| row.get(0))?;
            if count as usize >= MOST {
                let error = UserError::new(format!("there are {MOST} tokens already"));
                return Err(error
                    .hint("`dyno auth:token --revoke ID` makes room")
                    .into());
            }
            let id = new_id()?;
            transaction
                .prepare_cached("INSERT INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, NULL, ?6, ?7, ?8)")?
                .execute(params![
                    id,
                    description,
                    secret.hash().as_bytes(),
                    Time(now),
                    expires_at.map(Time),
                    grant.scope.name(),
                    grant.apps.is_none(),
                    parent
                ])?;
            for app in grant.apps.iter().flatten() {
                transaction
                    .prepare_cached(
                        "INSERT INTO token_apps VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                    )?
                    .execute([&id, app])?;
            }
            Ok(Token {
                id,
                description: description.to_owned(),
                hash: secret.hash(),
                created_at: now,
                expires_at,
                used_at: None,
                grant,
                parent: parent.map(str::to_owned),
            })
        })?;
        Ok((token, secret))
    }

    /// All tokens, the oldest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn tokens(&self) -> Result<Vec<Token>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, description, hash, created_at, expires_at, used_at, scope, all_apps, parent_id
             FROM tokens ORDER BY created_at, id",
        )?;
        let mut tokens: Vec<Token> = statement
            .query_map([], from_row)?
            .collect::<rusqlite::Result<_>>()?;
        let mut of_token = self
            .connection
            .prepare_cached("SELECT app_id FROM token_apps WHERE token_id = ?1 ORDER BY app_id")?;
        for token in &mut tokens {
            if let Some(apps) = &mut token.grant.apps {
                *apps = of_token
                    .query_map([&token.id], |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?;
            }
        }
        Ok(tokens)
    }

    /// Deletes a token, and those that were made with it. They are refused from then on.
    ///
    /// # Errors
    /// [`StoreError::NoToken`].
    pub fn revoke_token(&mut self, id: &str) -> Result<Token> {
        let all = self.tokens()?;
        let token = all.into_iter().find(|token| token.id == id);
        let token = token.ok_or_else(|| StoreError::NoToken(id.to_owned()))?;
        self.write(|transaction| {
            transaction
                .prepare_cached("DELETE FROM tokens WHERE id = ?1")?
                .execute([id])?;
            Ok(token)
        })
    }

    /// Stores when a token was last used.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn token_used(&mut self, id: &str, now: Timestamp) -> Result<()> {
        self.write(|transaction| {
            transaction
                .prepare_cached("UPDATE tokens SET used_at = ?2 WHERE id = ?1")?
                .execute(params![id, Time(now)])?;
            Ok(())
        })
    }

    /// The key that [signed URLs](crate::server) are signed with, made at the first call.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn url_key(&mut self) -> Result<Vec<u8>> {
        let made = hex(&random::bytes::<32>()?);
        let text: String = self.write(|transaction| {
            transaction
                .prepare_cached("INSERT INTO meta VALUES ('url_key', ?1) ON CONFLICT DO NOTHING")?
                .execute([made])?;
            Ok(transaction
                .prepare_cached("SELECT value FROM meta WHERE name = 'url_key'")?
                .query_row([], |row| row.get(0))?)
        })?;
        Ok(text.into_bytes())
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Token> {
    let hash: [u8; 32] = row.get(2)?;
    let time = |column| -> rusqlite::Result<Option<Timestamp>> {
        Ok(row.get::<_, Option<Time>>(column)?.map(|time| time.0))
    };
    Ok(Token {
        id: row.get(0)?,
        description: row.get(1)?,
        hash: TokenHash::from(hash),
        created_at: row.get::<_, Time>(3)?.0,
        expires_at: time(4)?,
        used_at: time(5)?,
        grant: TokenGrant {
            scope: row.get::<_, StoredScope>(6)?.0,
            apps: (!row.get::<_, bool>(7)?).then(Vec::new),
        },
        parent: row.get(8)?,
    })
}

/// A scope, by its name.
struct StoredScope(Scope);

impl FromSql for StoredScope {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let scope = Scope::of_name(value.as_str()?);
        scope.map(Self).ok_or(FromSqlError::InvalidType)
    }
}
