-- What makes a slug of the app's source, and the buildpacks that it was given, as a JSON array of their addresses.
ALTER TABLE apps ADD COLUMN builder TEXT NOT NULL DEFAULT 'auto' CHECK (builder IN ('auto', 'native', 'buildpacks', 'none'));
ALTER TABLE apps ADD COLUMN buildpacks TEXT NOT NULL DEFAULT '[]';
-- Those that a build was asked for with, or that its app had then.
ALTER TABLE builds ADD COLUMN buildpacks TEXT NOT NULL DEFAULT '[]';
