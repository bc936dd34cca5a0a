-- The network of an app's dynos; none of its own: the setting of that name says.
ALTER TABLE apps ADD COLUMN network TEXT CHECK (network IN ('host', 'private', 'none'));
