-- Whether an app's dynos log what they take of processors and memory.
ALTER TABLE apps ADD COLUMN runtime_metrics INTEGER NOT NULL DEFAULT 0 CHECK (runtime_metrics IN (0, 1));
