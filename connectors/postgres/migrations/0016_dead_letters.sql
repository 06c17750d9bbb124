-- Dead letters that are sent again, corrected, put away and let go of; and who sends what cannot be used.

ALTER TABLE dead_letters
  ADD COLUMN source    text   NOT NULL DEFAULT 'unknown',  -- who sent it, as far as the record itself says
  ADD COLUMN headers   bytea  NOT NULL DEFAULT '[]',       -- JSON array of [name, text]: those of the record that are kept
  ADD COLUMN seen      bigint NOT NULL DEFAULT 1,          -- records
  ADD COLUMN attempts  int    NOT NULL DEFAULT 0,          -- how often it was sent again
  ADD COLUMN sent_as   uuid,                               -- id of the content that was sent last; NULL: never sent
  ADD COLUMN instead   bytea,                              -- what is sent instead of `value`, which stays as it came
  ADD COLUMN instead_key bytea,                            -- the key, where the record had none
  ADD COLUMN closed_at timestamptz;                        -- when it was retried or discarded; NULL: it is open

UPDATE dead_letters SET closed_at = last_seen WHERE state <> 'open';
UPDATE dead_letters SET attempts = 1, sent_as = dead_letter_id WHERE state = 'retried';
-- `encode` takes any bytes; only what looks like the code of a source is believed
UPDATE dead_letters SET source = split_part(encode(key, 'escape'), ':', 1)
WHERE topic IN ('incident-reports', 'issue-reports') AND encode(key, 'escape') ~ '^[a-z0-9][a-z0-9_-]{0,39}:';
UPDATE dead_letters SET source = split_part(topic, '.', 2) WHERE topic LIKE 'work-order-updates.%';

CREATE INDEX dead_letters_open ON dead_letters (last_seen) WHERE state = 'open';
CREATE INDEX dead_letters_closed ON dead_letters (closed_at) WHERE state <> 'open';

-- What happened to a letter after it came: never changed, and gone only with its letter.
CREATE TABLE dead_letter_history (
  seq            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  dead_letter_id uuid NOT NULL REFERENCES dead_letters ON DELETE CASCADE,
  what           text NOT NULL CHECK (what IN ('retried', 'corrected', 'failed_again', 'discarded')),
  attempt        int  NOT NULL,              -- 1, 2, 3 …: the how-manieth time it was sent again
  at             timestamptz NOT NULL DEFAULT now(),
  who            text,                       -- NULL: the stream itself
  reason         text,                       -- why it was open then, or failed again
  why            text,                       -- in words
  value          bytea                       -- what was sent instead of the original
);
CREATE INDEX dead_letter_history_letter ON dead_letter_history (dead_letter_id, seq);

-- Contents that were sent instead of an original: should one come back, it is the same letter.
CREATE TABLE dead_letter_contents (
  content_id     uuid PRIMARY KEY,
  dead_letter_id uuid NOT NULL REFERENCES dead_letters ON DELETE CASCADE
);
CREATE INDEX dead_letter_contents_letter ON dead_letter_contents (dead_letter_id);

-- How many records could not be used, as they came: a row for each transaction, source, topic and reason.
CREATE TABLE dead_letter_tallies (
  seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at      timestamptz NOT NULL DEFAULT now(),
  source  text NOT NULL,
  topic   text NOT NULL,
  reason  text NOT NULL,
  records bigint NOT NULL,
  example uuid NOT NULL                      -- the id of one of them
);
CREATE INDEX dead_letter_tallies_at ON dead_letter_tallies (at);
