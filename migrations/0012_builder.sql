-- What makes a slug of the app's source: what it asks for, or nothing.
ALTER TABLE apps ADD COLUMN builder TEXT NOT NULL DEFAULT 'auto' CHECK (builder IN ('auto', 'none'));
