-- The city's portal: how far each dataset is read, and what was taken from it.

CREATE TABLE portal_marks (
  dataset      text PRIMARY KEY,             -- the portal's id, such as gumc-mgzr
  pass         bigint NOT NULL,              -- a fence: who begins a pass takes the dataset over
  pages        bigint NOT NULL DEFAULT 0,    -- accepted in this pass
  under_way    boolean NOT NULL DEFAULT false,
  at           timestamptz,                  -- where the pass stands: `:updated_at` of the last accepted row …
  row_id       text,                         -- … and its `:id`; NULL: every row of that moment is still to come
  mark         timestamptz,                  -- the newest `:updated_at` that was accepted, never in the future
  seen         text,                         -- JSON: validators of the last pass that was finished
  seeing       text,                         -- JSON: those of the pass that is under way
  gone         text[] NOT NULL DEFAULT '{}', -- columns that the portal does not have any more
  gone_at      timestamptz,                  -- when they were asked for last
  succeeded_at timestamptz,
  failures     int NOT NULL DEFAULT 0,       -- in a row
  problem      text,                         -- the last one, in a sentence
  problem_at   timestamptz,
  recorded_at  timestamptz NOT NULL DEFAULT now()
);

-- Every report and every dead letter that a row has become: the same content is not taken in twice.
CREATE TABLE portal_known (
  id uuid PRIMARY KEY                        -- of the event, or of the dead letter
);

-- Where a dataset is not what it was: told once, kept for whoever asks later.
CREATE TABLE portal_findings (
  dataset    text NOT NULL,
  kind       text NOT NULL CHECK (kind IN ('column_gone', 'column_back', 'new_value', 'went_back', 'ahead')),
  subject    text NOT NULL,                  -- the column, or column = value
  sentence   text NOT NULL,
  first_seen timestamptz NOT NULL DEFAULT now(),
  last_seen  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (dataset, kind, subject)
);
