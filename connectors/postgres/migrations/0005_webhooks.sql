-- Webhooks: who gets what is told to a department, and how far each has got. The queue itself is the feed (0002).

CREATE TABLE webhook_endpoints (
  endpoint_id     text PRIMARY KEY,          -- wh_…
  audience        text NOT NULL,             -- as in the feed: a department's code, or '' for supervisors
  url             text NOT NULL,
  secret          text NOT NULL,             -- whsec_…; in clear, because we sign with it
  previous_secret text,                      -- signs too, until previous_until
  previous_until  timestamptz,
  created_at      timestamptz NOT NULL DEFAULT now(),
  cursor_xid      xid8   NOT NULL,           -- delivered up to here
  cursor_seq      bigint NOT NULL,
  delivered_at    timestamptz,               -- the last success
  failures        int NOT NULL DEFAULT 0,    -- in a row
  failing_since   timestamptz,               -- the first of them
  next_attempt_at timestamptz NOT NULL DEFAULT now(),
  disabled_at     timestamptz,
  disabled_why    text,
  lease_holder    text,                      -- the courier that sends now, and until when the others leave it alone
  lease_until     timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX webhook_endpoints_due ON webhook_endpoints (next_attempt_at) WHERE disabled_at IS NULL;

-- What is sent once more by hand: a stretch of the feed, beside the endpoint's own cursor.
CREATE TABLE webhook_redeliveries (
  redelivery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  endpoint_id   text   NOT NULL,
  after_xid     xid8   NOT NULL,             -- sent again up to here
  after_seq     bigint NOT NULL,
  until_xid     xid8   NOT NULL,
  until_seq     bigint NOT NULL,
  requested_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhook_redeliveries_endpoint ON webhook_redeliveries (endpoint_id, redelivery_id);

-- The log of attempts; the courier drops what is older than the settings say.
CREATE TABLE webhook_deliveries (
  delivery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  endpoint_id text   NOT NULL,
  message_id  text   NOT NULL,
  xid         xid8   NOT NULL,               -- the message's place in the feed
  seq         bigint NOT NULL,
  type        text   NOT NULL,
  subject     text   NOT NULL,
  attempt     int    NOT NULL,               -- 1, 2, 3 …
  again       boolean NOT NULL,              -- sent once more by hand
  at          timestamptz NOT NULL DEFAULT now(),
  duration_ms int    NOT NULL,
  status      int,                           -- NULL: there was no answer
  rule        text   NOT NULL,               -- what followed, connectors/webhooks/schedule.py
  sentence    text   NOT NULL
);
CREATE INDEX webhook_deliveries_endpoint ON webhook_deliveries (endpoint_id, delivery_id);
CREATE INDEX webhook_deliveries_message ON webhook_deliveries (message_id);
CREATE INDEX webhook_deliveries_at ON webhook_deliveries (at);

-- What a person has to look at: an endpoint that was disabled. Open until it is enabled again or removed.
CREATE TABLE webhook_alerts (
  alert_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  endpoint_id text NOT NULL,
  audience    text NOT NULL,
  raised_at   timestamptz NOT NULL DEFAULT now(),
  sentence    text NOT NULL,
  resolved_at timestamptz
);
CREATE INDEX webhook_alerts_open ON webhook_alerts (endpoint_id) WHERE resolved_at IS NULL;
