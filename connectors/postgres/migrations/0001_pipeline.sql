-- The pipeline's tables. Facts are never updated but for last_seen; folds are upserted when their version grows.

CREATE TABLE policies (
  version     text PRIMARY KEY,
  content     text NOT NULL,                 -- canonical JSON of the whole policy
  recorded_at timestamptz NOT NULL DEFAULT now()
);

-- Where each consumer stands in each partition of one incarnation of a log, and who may move it.
CREATE TABLE fences (
  consumer    text   NOT NULL,
  topic       text   NOT NULL,
  partition   int    NOT NULL,
  incarnation text   NOT NULL,
  epoch       bigint NOT NULL,
  next_offset bigint NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer, topic, partition)
);

-- What is committed and still has to be published (or, with a broker that keeps nothing, to be consumed).
CREATE TABLE outbox (
  seq              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source           text  NOT NULL,           -- "consumer/topic/partition" or "door/<name>"
  topic            text  NOT NULL,
  key              bytea NOT NULL,
  value            bytea NOT NULL,
  headers          bytea NOT NULL,           -- JSON array of [name, text]
  sent_incarnation text,                     -- set by the broker's answer
  sent_partition   int,
  sent_offset      bigint
);
CREATE INDEX outbox_unsent ON outbox (source, seq) WHERE sent_offset IS NULL;
CREATE INDEX outbox_sent ON outbox (topic, sent_partition, sent_offset) WHERE sent_offset IS NOT NULL;

CREATE TABLE dead_letters (
  dead_letter_id uuid PRIMARY KEY,
  topic          text NOT NULL,
  partition      int  NOT NULL,
  "offset"       bigint NOT NULL,
  reason         text NOT NULL,
  field          text,
  expected       text NOT NULL,
  key            bytea,
  value          bytea,
  state          text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'retried', 'discarded')),
  recorded_at    timestamptz NOT NULL DEFAULT now(),
  last_seen      timestamptz NOT NULL DEFAULT now()
);

-- Facts.
CREATE TABLE incident_reports (
  source      text NOT NULL,
  report_id   text NOT NULL,
  revised_at  timestamptz NOT NULL,
  digest      bigint NOT NULL,               -- of body: the same revision with other content is another fact
  incident_id uuid NOT NULL,
  body        text NOT NULL,                 -- canonical JSON of the report
  recorded_at timestamptz NOT NULL DEFAULT now(),
  last_seen   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, report_id, revised_at, digest)
);
CREATE INDEX incident_reports_incident ON incident_reports (incident_id);

CREATE TABLE issue_reports (
  source         text NOT NULL,
  request_number text NOT NULL,
  revised_at     timestamptz NOT NULL,
  digest         bigint NOT NULL,
  issue_id       uuid NOT NULL,
  parent_id      uuid,
  body           text NOT NULL,
  recorded_at    timestamptz NOT NULL DEFAULT now(),
  last_seen      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, request_number, revised_at, digest)
);
CREATE INDEX issue_reports_issue ON issue_reports (issue_id);
CREATE INDEX issue_reports_parent ON issue_reports (parent_id) WHERE parent_id IS NOT NULL;

-- Folds. `cells`: H3 cells of every place it ever had. `occurred_at` and `created_at` are the earliest that it was
-- ever held to have happened, `occurred_until` and `created_until` the latest: look-ups by time must not lose it by
-- a revision.
CREATE TABLE incidents (
  incident_id uuid PRIMARY KEY,
  number      text   NOT NULL,
  version     bigint NOT NULL,
  validity    text   NOT NULL,
  kind        text   NOT NULL,
  occurred_at timestamptz NOT NULL,
  occurred_until timestamptz NOT NULL,
  cells       bigint[] NOT NULL,
  body        text   NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX incidents_cells ON incidents USING gin (cells) WITH (fastupdate = off);

CREATE TABLE issues (
  issue_id       uuid PRIMARY KEY,
  source         text   NOT NULL,
  request_number text   NOT NULL,
  version        bigint NOT NULL,
  status         text   NOT NULL,
  category       text   NOT NULL,
  folded_into    uuid,
  created_at     timestamptz NOT NULL,
  created_until  timestamptz NOT NULL,
  cells          bigint[] NOT NULL,
  body           text   NOT NULL,
  recorded_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX issues_cells ON issues USING gin (cells) WITH (fastupdate = off);
CREATE INDEX issues_folded_into ON issues (folded_into) WHERE folded_into IS NOT NULL;

CREATE TABLE responses (
  response_id uuid PRIMARY KEY,
  incident_id uuid   NOT NULL UNIQUE,
  version     bigint NOT NULL,
  status      text   NOT NULL,
  tier        text   NOT NULL,
  area        int,
  priority    text   NOT NULL,
  severity    int    NOT NULL,
  opens_at    timestamptz NOT NULL,
  ends_at     timestamptz NOT NULL,
  cells       bigint[] NOT NULL,
  body        text   NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX responses_cells ON responses USING gin (cells) WITH (fastupdate = off);

CREATE TABLE order_causes (
  order_key   text   NOT NULL,
  cause_id    uuid   NOT NULL,
  version     bigint NOT NULL,
  incident_id uuid   NOT NULL,
  issue_id    uuid,
  standing    text   NOT NULL,
  body        text   NOT NULL,               -- canonical JSON of the command
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (order_key, cause_id)
);
CREATE INDEX order_causes_incident ON order_causes (incident_id);
CREATE INDEX order_causes_issue ON order_causes (issue_id);

CREATE TABLE work_orders (
  order_id    uuid PRIMARY KEY,
  order_key   text   NOT NULL UNIQUE,
  reference   text   NOT NULL UNIQUE,
  version     bigint NOT NULL,
  state       text   NOT NULL,
  category    text   NOT NULL,
  work        text   NOT NULL,
  department  text   NOT NULL,
  area        int,
  priority    text   NOT NULL,
  opened_at   timestamptz NOT NULL,
  told        int    NOT NULL,               -- how often its department was told: a matter of arrival, not of facts
  body        text   NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now()
);

-- Every decision as it was taken; the one with the highest version of a subject stands.
CREATE TABLE decisions (
  stage          text   NOT NULL,
  subject        uuid   NOT NULL,
  version        bigint NOT NULL,
  rule           text   NOT NULL,
  because        text   NOT NULL,
  policy_version text   NOT NULL,
  inputs         text   NOT NULL,
  output         text   NOT NULL,
  recorded_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (stage, subject, version)
);
CREATE VIEW standing_decisions AS
  SELECT DISTINCT ON (stage, subject) * FROM decisions ORDER BY stage, subject, version DESC;

-- How far the replay of a set of files has come, so that it goes on where it stopped.
CREATE TABLE replays (
  replay_id   text PRIMARY KEY,              -- digest of the files and of the selection
  position    bigint NOT NULL,               -- rows durably accepted
  finished    boolean NOT NULL DEFAULT false,
  recorded_at timestamptz NOT NULL DEFAULT now()
);
