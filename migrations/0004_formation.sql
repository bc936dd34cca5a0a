-- Whether a dyno is one of the formation's: its name is one that the formation has a place for.
ALTER TABLE dynos ADD COLUMN formation INTEGER NOT NULL DEFAULT 0 CHECK (formation IN (0, 1));

-- Whether somebody has asked for a formation: 0 nobody, 1 a deploy did whose release does not count yet, 2 there was one.
-- A deploy that a command makes on its way asks for none, and so starts no web dyno.
ALTER TABLE apps ADD COLUMN formed INTEGER NOT NULL DEFAULT 0 CHECK (formed IN (0, 1, 2));

UPDATE apps SET formed = 2 WHERE id IN (SELECT app_id FROM formation);
