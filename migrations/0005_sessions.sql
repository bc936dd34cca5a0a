-- The apps of `dyno start`: each lives as long as the command, and its folder means it as long as it lives, whatever the
-- folder is linked to. `live`: the dynos work in the folder itself.
CREATE TABLE sessions (
    id     TEXT    NOT NULL PRIMARY KEY,
    app_id TEXT    NOT NULL UNIQUE REFERENCES apps ON DELETE CASCADE,
    path   TEXT    NOT NULL UNIQUE,
    device INTEGER NOT NULL,
    inode  INTEGER NOT NULL,
    live   INTEGER NOT NULL CHECK (live IN (0, 1))
) STRICT, WITHOUT ROWID;
