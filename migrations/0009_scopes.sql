-- What a token lets its client do, and for which apps; one that was made with another ends with it.
ALTER TABLE tokens ADD COLUMN scope TEXT NOT NULL DEFAULT 'admin'
    CHECK (scope IN ('identity', 'read', 'read-protected', 'run', 'deploy', 'admin'));
ALTER TABLE tokens ADD COLUMN all_apps INTEGER NOT NULL DEFAULT 1 CHECK (all_apps IN (0, 1));
ALTER TABLE tokens ADD COLUMN parent_id TEXT REFERENCES tokens ON DELETE CASCADE;

CREATE INDEX tokens_of_parent ON tokens (parent_id);

-- The apps of a token that is not for all of them.
CREATE TABLE token_apps (
    token_id TEXT NOT NULL REFERENCES tokens ON DELETE CASCADE,
    app_id   TEXT NOT NULL REFERENCES apps   ON DELETE CASCADE,
    PRIMARY KEY (token_id, app_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX token_apps_of_app ON token_apps (app_id);
