-- The latest that an incident or an issue was ever held to have happened: look-ups by time must not lose it by a
-- revision. `occurred_at` and `created_at` are the earliest.

ALTER TABLE incidents ADD COLUMN occurred_until timestamptz;
UPDATE incidents SET occurred_until = occurred_at;
ALTER TABLE incidents ALTER COLUMN occurred_until SET NOT NULL;

ALTER TABLE issues ADD COLUMN created_until timestamptz;
UPDATE issues SET created_until = created_at;
ALTER TABLE issues ALTER COLUMN created_until SET NOT NULL;
