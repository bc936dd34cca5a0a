-- Dyno time that is past, by app, process type and size. It stays when dynos are forgotten and when their app is
-- destroyed; then the name is the one that the app had.
CREATE TABLE usage (
    app_id       TEXT    NOT NULL,
    app_name     TEXT    NOT NULL,
    process_type TEXT    NOT NULL,
    size         TEXT    NOT NULL,
    dynos        INTEGER NOT NULL CHECK (dynos > 0),
    micros       INTEGER NOT NULL CHECK (micros >= 0),
    PRIMARY KEY (app_id, process_type, size)
) STRICT, WITHOUT ROWID;

INSERT INTO usage
SELECT app_id, apps.name, process_type, size, count(*), sum(max(0, ended_at - dynos.created_at))
FROM dynos JOIN apps ON apps.id = app_id WHERE ended_at IS NOT NULL
GROUP BY app_id, process_type, size;

-- What went wrong, for a dyno that could not be started.
ALTER TABLE dynos ADD COLUMN end_message TEXT;

-- How many are alive is asked at every start, however many have ended.
CREATE INDEX dynos_alive ON dynos (app_id, size) WHERE ended_at IS NULL;
-- An app's dynos in the order of their rows, page by page.
CREATE INDEX dynos_of_app ON dynos (app_id);
