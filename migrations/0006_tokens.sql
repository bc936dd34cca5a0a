-- Who may use the API from elsewhere than the Unix socket. Of a token only its SHA-256 is kept.
CREATE TABLE tokens (
    id          TEXT    NOT NULL PRIMARY KEY,
    description TEXT    NOT NULL,
    hash        BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    used_at     INTEGER
) STRICT, WITHOUT ROWID;
