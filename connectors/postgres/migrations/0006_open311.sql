-- Open311, both ways.

-- What `POST requests` answered: the token, and the request that it stands for.
CREATE TABLE open311_tokens (
  token          text PRIMARY KEY,
  request_number text NOT NULL,
  issue_id       uuid NOT NULL,
  recorded_at    timestamptz NOT NULL DEFAULT now()
);

-- `GET requests`: by time of the request, by time of the change, by number.
CREATE INDEX issues_requested ON issues (created_at DESC, issue_id);
CREATE INDEX issues_changed ON issues (recorded_at);
CREATE INDEX issues_number ON issues (request_number);
-- When a department was told of an order last.
CREATE INDEX feed_told ON feed (audience, subject, version DESC) WHERE kind = 'work-order';
CREATE INDEX feed_news ON feed (xid, seq) WHERE kind = 'service-request-news';

-- Departments that only know 311: the city's endpoint where their orders are filed and followed.
CREATE TABLE open311_endpoints (
  department    text PRIMARY KEY,
  url           text NOT NULL,               -- what comes before /requests.json
  key_variable  text NOT NULL,               -- the environment variable that holds the API key; the key is never here
  jurisdiction  text,
  service_codes text NOT NULL,               -- JSON: category -> the endpoint's service code
  phrases       text NOT NULL,               -- JSON: [[words of the notes, outcome or "note"], …], tried in order
  per_minute    int  NOT NULL,               -- requests that we send at most
  poll_s        int  NOT NULL,               -- seconds between two looks at one open request
  cursor        text NOT NULL,               -- how far its feed is read
  leased_by     text,                        -- the process that works for it
  leased_until  timestamptz,
  paused_until  timestamptz,
  failures      int  NOT NULL DEFAULT 0,     -- in a row
  problem       text,                        -- the last one, in a sentence
  problem_at    timestamptz,
  recorded_at   timestamptz NOT NULL DEFAULT now()
);

-- One row per order and how-manieth request for it: an order that is opened again is filed again.
CREATE TABLE open311_filings (
  department         text NOT NULL REFERENCES open311_endpoints ON DELETE CASCADE,
  reference          text NOT NULL,
  number             int  NOT NULL,
  state              text NOT NULL CHECK (state IN ('wanted', 'sending', 'token', 'filed', 'closed', 'not_needed')),
  version            bigint NOT NULL,        -- of what the department was told last
  body               text NOT NULL,          -- that, canonical JSON
  token              text,
  service_request_id text,
  sent_at            timestamptz,            -- when we began to send it first
  due_at             timestamptz,            -- when it is to be looked at next; NULL: never
  attempts           int  NOT NULL DEFAULT 0,
  seen               text,                   -- JSON: what the endpoint said of it last
  problem            text,                   -- what went wrong last, or what the standard has no words for
  problem_at         timestamptz,
  recorded_at        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (department, reference, number)
);
CREATE INDEX open311_filings_due ON open311_filings (department, due_at) WHERE due_at IS NOT NULL;
