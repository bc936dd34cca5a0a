//! Table `tokens`: who may use the API from elsewhere than the Unix socket.

use jiff::Timestamp;
use rusqlite::{Row, params};

use super::columns::Time;
use super::{Result, Store, StoreError, new_id, no_random};
use crate::error::UserError;
use crate::kernel::random;
use crate::model::token::{Secret, Token, TokenHash};
use crate::model::uuid::hex;

/// The most tokens: each request is compared with all of them.
pub const MOST: usize = 1_000;

impl Store {
    /// Creates a token. The secret is not stored, and cannot be shown again.
    ///
    /// # Errors
    /// When there are [`MOST`] already, or the state cannot be written.
    pub fn create_token(
        &mut self,
        description: &str,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(Token, Secret)> {
        let secret = Secret::of(random::bytes().map_err(no_random)?);
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
                .prepare_cached("INSERT INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, NULL)")?
                .execute(params![
                    id,
                    description,
                    secret.hash().as_bytes(),
                    Time(now),
                    expires_at.map(Time)
                ])?;
            Ok(Token {
                id,
                description: description.to_owned(),
                hash: secret.hash(),
                created_at: now,
                expires_at,
                used_at: None,
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
            "SELECT id, description, hash, created_at, expires_at, used_at FROM tokens
             ORDER BY created_at, id",
        )?;
        let tokens = statement
            .query_map([], from_row)?
            .collect::<rusqlite::Result<_>>()?;
        Ok(tokens)
    }

    /// Deletes a token, which is refused from then on.
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
        let made = hex(&random::bytes::<32>().map_err(no_random)?);
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
    })
}
