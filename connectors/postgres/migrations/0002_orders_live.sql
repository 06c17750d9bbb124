-- Orders live: what departments say of them, and what they are told.

-- A site can have one order after the other: what is asked for after one is closed opens the next generation.
ALTER TABLE order_causes ADD COLUMN generation int NOT NULL DEFAULT 1;
ALTER TABLE order_causes DROP CONSTRAINT order_causes_pkey;
ALTER TABLE order_causes ADD PRIMARY KEY (order_key, cause_id, generation);

ALTER TABLE work_orders
  ADD COLUMN generation      int NOT NULL DEFAULT 1,
  ADD COLUMN updates         int NOT NULL DEFAULT 0,
  ADD COLUMN resolved_at     timestamptz,
  ADD COLUMN outcome         text,
  ADD COLUMN verify          boolean NOT NULL DEFAULT false,
  ADD COLUMN lat             double precision,
  ADD COLUMN lon             double precision,
  ADD COLUMN department_body text;           -- canonical JSON of what its department was told last; NULL: never told
ALTER TABLE work_orders DROP CONSTRAINT work_orders_order_key_key;
ALTER TABLE work_orders ADD UNIQUE (order_key, generation);
CREATE INDEX work_orders_page ON work_orders (opened_at DESC, order_id);
CREATE INDEX work_orders_department_page ON work_orders (department, opened_at DESC, order_id);
CREATE INDEX work_orders_department_changed ON work_orders (department, recorded_at, order_id);

-- The ledger: every update that reached its order, with the verdict on it. Only ever added to.
CREATE TABLE order_ledger (
  order_id    uuid   NOT NULL,
  seq         int    NOT NULL,               -- 1, 2, 3 … of this order
  order_key   text   NOT NULL,
  department  text   NOT NULL,               -- who sent it
  update_id   text   NOT NULL,               -- the sender's
  digest      bigint NOT NULL,               -- of the update: the same id with other content is another update
  verdict     text   NOT NULL,
  body        text   NOT NULL,               -- canonical JSON of the entry
  result      text,                          -- canonical JSON of the answer; NULL: nobody asked
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (order_id, seq),
  UNIQUE (department, update_id)
);

-- Updates for orders that nobody knows (yet): tried again when the order is there, dead-lettered after a time.
CREATE TABLE parked_updates (
  seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- they go on in the order in which they came
  department  text NOT NULL,
  update_id   text NOT NULL,
  reference   text NOT NULL,
  body        text NOT NULL,                 -- canonical JSON of the update
  received_at timestamptz NOT NULL
);
-- The same update is parked once; another one under its id is kept too, so that it is answered.
CREATE UNIQUE INDEX parked_updates_once ON parked_updates (department, update_id, md5(body));
CREATE INDEX parked_updates_reference ON parked_updates (reference);

-- Everything that is told outside of Kafka (REST, its stream, webhooks, Open311) is read from here, in the order of
-- (xid, seq): a row is final once its transaction is older than every one still running, see connectors/postgres/feed.py.
CREATE TABLE feed (
  xid         xid8   NOT NULL DEFAULT pg_current_xact_id(),
  seq         bigint GENERATED ALWAYS AS IDENTITY,
  audience    text   NOT NULL,               -- a department's code, or '' for supervisors (restricted)
  kind        text   NOT NULL,               -- work-order, update-result, service-request-news
  subject     text   NOT NULL,               -- order reference; of news, the request number
  version     bigint NOT NULL,
  body        text,                          -- what is told, canonical JSON; NULL: look at the order as it is
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (xid, seq)
);
CREATE INDEX feed_audience ON feed (audience, xid, seq);
