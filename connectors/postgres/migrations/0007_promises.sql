-- Promises: what our side does to an order's clocks, what they stand at, when to look again, and who was warned.

-- Only ever added to. With order_ledger, everything that an order's clocks and alerts are made of.
CREATE TABLE promise_lines (
  order_id    uuid NOT NULL,
  seq         int  NOT NULL,                 -- 1, 2, 3 … of this order
  body        text NOT NULL,                 -- canonical JSON of the line
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (order_id, seq)
);

-- What they add up to, as a projection: one row for each order.
CREATE TABLE promises (
  order_id    uuid PRIMARY KEY,
  next_due_at timestamptz,                   -- the first due time of its running clocks; NULL: none
  body        text NOT NULL,                 -- canonical JSON of the order's Promises
  recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX promises_due ON promises (next_due_at) WHERE next_due_at IS NOT NULL;

-- When an order waits for time to pass: at most one row for each. Only the order's writer arms, moves and deletes it;
-- who nudges merely takes a lease, so that a nudge that is lost comes again.
CREATE TABLE timers (
  order_id     uuid PRIMARY KEY,
  order_key    text NOT NULL,
  reference    text NOT NULL,
  due_at       timestamptz NOT NULL,
  nudges       int NOT NULL DEFAULT 0,       -- sent for this due time
  nudge_at     timestamptz NOT NULL,         -- when to nudge (again): due_at, then the end of the lease
  armed_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX timers_nudge ON timers (nudge_at);

-- Each rung of each clock, once.
CREATE TABLE alerts (
  alert_id    uuid PRIMARY KEY,
  order_id    uuid NOT NULL,
  reference   text NOT NULL,
  department  text NOT NULL,
  area        int,
  clock       text NOT NULL,
  cycle       int  NOT NULL,
  rung        text NOT NULL,
  level       int  NOT NULL,
  state       text NOT NULL,
  at          timestamptz NOT NULL,          -- when the rung was reached
  fired_at    timestamptz NOT NULL,
  seq         int  NOT NULL,                 -- of its last event
  body        text NOT NULL,                 -- canonical JSON of the alert
  recorded_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (order_id, clock, cycle, rung)
);
CREATE INDEX alerts_page ON alerts (at DESC, alert_id);
CREATE INDEX alerts_department_page ON alerts (department, at DESC, alert_id);
CREATE INDEX alerts_attention ON alerts (state, level) WHERE state IN ('open', 'acknowledged', 'snoozed');

-- What happened to them. Only ever added to.
CREATE TABLE alert_events (
  alert_id    uuid NOT NULL,
  seq         int  NOT NULL,                 -- 1, 2, 3 … of this alert
  order_id    uuid NOT NULL,
  kind        text NOT NULL,
  command_id  text,                          -- of what a person did; NULL: time, or the order itself
  body        text NOT NULL,                 -- canonical JSON of the event
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (alert_id, seq)
);
CREATE INDEX alert_events_order ON alert_events (order_id);
CREATE INDEX alert_events_command ON alert_events (command_id) WHERE command_id IS NOT NULL;
