-- What a dyno took until its end, as far as it is known: bytes of memory at most, time of the processors in microseconds,
-- bytes read from disks and written to them.
ALTER TABLE dynos ADD COLUMN peak_memory INTEGER;
ALTER TABLE dynos ADD COLUMN cpu_micros INTEGER;
ALTER TABLE dynos ADD COLUMN bytes_read INTEGER;
ALTER TABLE dynos ADD COLUMN bytes_written INTEGER;

-- The same of all dynos together, memory as that of the one that had most.
ALTER TABLE usage ADD COLUMN peak_memory INTEGER;
ALTER TABLE usage ADD COLUMN cpu_micros INTEGER;
ALTER TABLE usage ADD COLUMN bytes_read INTEGER;
ALTER TABLE usage ADD COLUMN bytes_written INTEGER;
