-- The life of responses: when their windows end, whether their zones were made safe, how they were closed.

-- Only ever added to.
CREATE TABLE response_lines (
  response_id uuid NOT NULL,
  seq         int  NOT NULL,                 -- 1, 2, 3 … of this response
  cycle       int  NOT NULL,
  kind        text NOT NULL,
  body        text NOT NULL,                 -- canonical JSON of the line
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (response_id, seq)
);
CREATE UNIQUE INDEX response_lines_closed_once ON response_lines (response_id, cycle) WHERE kind = 'closed';

-- What they add up to, as a projection: one row for each response that its writer has seen.
CREATE TABLE response_life (
  response_id uuid PRIMARY KEY,
  incident_id uuid NOT NULL UNIQUE,
  state       text NOT NULL,
  seq         int  NOT NULL,                 -- of its last line
  closes_at   timestamptz NOT NULL,
  safe_since  timestamptz,
  closed_at   timestamptz,
  body        text NOT NULL,                 -- canonical JSON of the ResponseLife
  recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX response_life_open ON response_life (closes_at) WHERE state = 'open';

-- Timers are of more than orders: `subject_id` is what waits, `key` that of the record that tells it that its time has
-- come, on the topic of its kind (connectors/timers/nudger.py).
ALTER TABLE timers RENAME COLUMN order_id TO subject_id;
ALTER TABLE timers RENAME COLUMN order_key TO key;
ALTER TABLE timers ADD COLUMN kind text NOT NULL DEFAULT 'order' CHECK (kind IN ('order', 'response'));
