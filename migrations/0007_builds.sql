-- Tarballs of sources that somebody is about to build, or has: each is a file named by its digest, for an hour.
CREATE TABLE sources (
    id         TEXT    NOT NULL PRIMARY KEY,
    digest     TEXT             CHECK (length(digest) = 64),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One that is pending when a server starts was lost with an earlier one. What it printed is a file of the same name.
CREATE TABLE builds (
    id                 TEXT    NOT NULL PRIMARY KEY,
    app_id             TEXT    NOT NULL REFERENCES apps ON DELETE CASCADE,
    status             TEXT    NOT NULL CHECK (status IN ('pending', 'succeeded', 'failed')),
    user               TEXT    NOT NULL,
    source_id          TEXT    NOT NULL,
    source_url         TEXT    NOT NULL,
    "commit"           TEXT,
    commit_description TEXT,
    checksum           TEXT,
    slug_id            TEXT             REFERENCES slugs ON DELETE SET NULL,
    release_id         TEXT             REFERENCES releases ON DELETE SET NULL,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL
) STRICT;

CREATE INDEX builds_of_app ON builds (app_id, created_at);
CREATE INDEX builds_of_slug ON builds (slug_id);
CREATE INDEX builds_of_release ON builds (release_id);
