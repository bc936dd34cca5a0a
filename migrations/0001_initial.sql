-- The first schema. Ids are uuids as text, times are microseconds since 1970, digests are 64
-- hexadecimal digits, lists and maps without a life of their own are JSON.

-- What there is one of, by name: the id of the account.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE apps (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- A slug outlives its app when another app's release uses it; then it has no app.
CREATE TABLE slugs (
    id                 TEXT    NOT NULL PRIMARY KEY,
    app_id             TEXT             REFERENCES apps ON DELETE SET NULL,
    digest             TEXT             CHECK (length(digest) = 64),
    size               INTEGER,
    uploaded           INTEGER NOT NULL CHECK (uploaded IN (0, 1)),
    process_types      TEXT    NOT NULL,
    "commit"           TEXT,
    commit_description TEXT,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    CHECK (uploaded = 0 OR (digest IS NOT NULL AND size IS NOT NULL))
) STRICT;

CREATE INDEX slugs_of_app ON slugs (app_id);

-- The config of an app is that of its newest release: each has all of it, so that a rollback can
-- bring it back.
CREATE TABLE releases (
    id          TEXT    NOT NULL PRIMARY KEY,
    app_id      TEXT    NOT NULL REFERENCES apps ON DELETE CASCADE,
    version     INTEGER NOT NULL CHECK (version > 0),
    status      TEXT    NOT NULL CHECK (status IN ('pending', 'succeeded', 'failed', 'expired')),
    description TEXT    NOT NULL,
    user        TEXT    NOT NULL,
    slug_id     TEXT             REFERENCES slugs,
    config      TEXT    NOT NULL,
    toolchains  TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    UNIQUE (app_id, version)
) STRICT;

CREATE INDEX releases_of_slug ON releases (slug_id);

-- The command of a process type is in the slug of the current release.
CREATE TABLE formation (
    id           TEXT    NOT NULL PRIMARY KEY,
    app_id       TEXT    NOT NULL REFERENCES apps ON DELETE CASCADE,
    process_type TEXT    NOT NULL,
    quantity     INTEGER NOT NULL CHECK (quantity >= 0),
    size         TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    UNIQUE (app_id, process_type)
) STRICT;

-- A mirror of what the supervisors say. A row without ended_at is a dyno that may be alive.
CREATE TABLE dynos (
    id           TEXT    NOT NULL PRIMARY KEY,
    app_id       TEXT    NOT NULL REFERENCES apps ON DELETE CASCADE,
    release_id   TEXT    NOT NULL REFERENCES releases ON DELETE CASCADE,
    process_type TEXT    NOT NULL,
    number       INTEGER NOT NULL CHECK (number > 0),
    command      TEXT    NOT NULL,
    size         TEXT    NOT NULL,
    attach       TEXT    NOT NULL CHECK (attach IN ('detached', 'terminal', 'pipes')),
    state        TEXT    NOT NULL
                 CHECK (state IN ('starting', 'up', 'idle', 'crashed', 'down', 'complete')),
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    exit_status  INTEGER,
    exit_signal  INTEGER,
    end_reason   TEXT,
    CHECK (exit_status IS NULL OR exit_signal IS NULL)
) STRICT;

CREATE INDEX dynos_by_end ON dynos (app_id, ended_at);
CREATE INDEX dynos_by_name ON dynos (app_id, process_type, number);
CREATE INDEX dynos_of_release ON dynos (release_id);

-- The last number given to a one-off dyno of a type. It stays when the dynos are forgotten, so that
-- a name never means two of them.
CREATE TABLE counters (
    app_id       TEXT    NOT NULL REFERENCES apps ON DELETE CASCADE,
    process_type TEXT    NOT NULL,
    last         INTEGER NOT NULL CHECK (last > 0),
    PRIMARY KEY (app_id, process_type)
) STRICT, WITHOUT ROWID;

-- Which folder is which app's. The inode tells a folder from a later one of the same name; the
-- device is for the curious only, since its number may change at a reboot.
CREATE TABLE folders (
    path      TEXT    NOT NULL PRIMARY KEY,
    device    INTEGER NOT NULL,
    inode     INTEGER NOT NULL,
    app_id    TEXT    NOT NULL REFERENCES apps ON DELETE CASCADE,
    linked_at INTEGER NOT NULL,
    packed_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX folders_of_app ON folders (app_id);
