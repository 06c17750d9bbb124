-- Notify: who is told of which alert, over which channel, and how that went. The queue of events is the feed (0002).

-- How far notify has read the feed: one row.
CREATE TABLE notify_cursor (
  only_one   boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  cursor_xid xid8   NOT NULL DEFAULT '0',
  cursor_seq bigint NOT NULL DEFAULT 0
);
INSERT INTO notify_cursor DEFAULT VALUES;

-- What somebody is to be told over one channel: once for each event of an alert.
CREATE TABLE notifications (
  notification_id text PRIMARY KEY,          -- n_…, made of the four columns that are unique
  seq             bigint GENERATED ALWAYS AS IDENTITY,
  subject         text NOT NULL,             -- the alert's id; of a notice, what it is about
  event_seq       bigint NOT NULL,           -- of the alert's event
  person          text NOT NULL,
  channel         text NOT NULL,
  kind            text NOT NULL,             -- alert, correction, or a notice of ours
  level           int  NOT NULL,
  reference       text,                      -- the order's
  wait            text NOT NULL,             -- what it waits for: gathering, quiet, digest
  due_at          timestamptz NOT NULL,      -- not before
  state           text NOT NULL DEFAULT 'waiting',  -- waiting, sent, not_needed, undeliverable
  why             text,                      -- why it is not needed, or could not be delivered
  message_id      text,                      -- the message that it goes with
  rounds          int NOT NULL DEFAULT 0,    -- how often it was tried anew by hand
  under_way       boolean NOT NULL DEFAULT false,  -- in an attempt whose end is not written down yet
  perhaps         boolean NOT NULL DEFAULT false,  -- was in an attempt of which nobody knows whether it arrived
  body            text NOT NULL,             -- canonical JSON of what it says
  made_at         timestamptz NOT NULL,
  ended_at        timestamptz,
  UNIQUE (subject, event_seq, person, channel)
);
CREATE INDEX notifications_due ON notifications (channel, due_at) WHERE state = 'waiting' AND message_id IS NULL;
CREATE INDEX notifications_message ON notifications (message_id);
CREATE INDEX notifications_state ON notifications (state, seq);

-- What is sent at once: one notification, or those of a storm or a digest. It keeps its id over all attempts.
CREATE TABLE notify_messages (
  message_id text PRIMARY KEY,               -- rn_…
  seq        bigint GENERATED ALWAYS AS IDENTITY,
  person     text NOT NULL,
  channel    text NOT NULL,
  template   text NOT NULL,
  due_at     timestamptz NOT NULL,           -- of the first notification in it
  state      text NOT NULL DEFAULT 'sending',  -- sending, sent, not_needed, undeliverable
  attempts   int NOT NULL DEFAULT 0,
  tried_at   timestamptz,                    -- the first attempt
  ended_at   timestamptz
);
CREATE INDEX notify_messages_sending ON notify_messages (channel, seq) WHERE state = 'sending';

-- How a channel fares, and who sends over it now.
CREATE TABLE notify_channels (
  channel         text PRIMARY KEY,
  failures        int NOT NULL DEFAULT 0,    -- in a row
  failing_since   timestamptz,               -- the first of them
  next_attempt_at timestamptz NOT NULL DEFAULT '-infinity',
  delivered_at    timestamptz,               -- the last success
  outages         int NOT NULL DEFAULT 0,    -- how often it was dead
  dead_since      timestamptz,
  dead_why        text,
  lease_holder    text,
  lease_until     timestamptz NOT NULL DEFAULT '-infinity'
);

-- The log of attempts; what is older than the settings say is dropped.
CREATE TABLE notify_attempts (
  attempt_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  message_id  text NOT NULL,
  channel     text NOT NULL,
  person      text NOT NULL,
  attempt     int  NOT NULL,                 -- 1, 2, 3 … of the message
  at          timestamptz NOT NULL DEFAULT now(),
  duration_ms int  NOT NULL,
  rule        text NOT NULL,                 -- what followed, connectors/notify/schedule.py
  sentence    text NOT NULL
);
CREATE INDEX notify_attempts_message ON notify_attempts (message_id, attempt_id);
CREATE INDEX notify_attempts_at ON notify_attempts (at);
