-- The REST API: what was submitted, and how it was answered.

-- Answers to requests that carried an Idempotency-Key, so that the same request has the same answer for a day.
CREATE TABLE idempotency_keys (
  principal   text  NOT NULL,
  key         text  NOT NULL,
  digest      bytea NOT NULL,                -- of the request: the same key with another one is a mistake
  status      int   NOT NULL,
  headers     text  NOT NULL,                -- JSON object
  body        text  NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (recorded_at);

-- Updates that came in over HTTP: until the answer is there, they are pending.
CREATE TABLE submitted_updates (
  department  text NOT NULL,
  update_id   text NOT NULL,
  reference   text NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (department, update_id)
);
CREATE INDEX submitted_updates_age ON submitted_updates (recorded_at);

-- The answers of one department about one order, which the API looks up by the update's id.
CREATE INDEX feed_update_results ON feed (audience, subject) WHERE kind = 'update-result';

-- Pages of orders by when they changed, for who reads what is new.
CREATE INDEX work_orders_changed ON work_orders (recorded_at, order_id);
CREATE INDEX responses_page ON responses (opens_at DESC, response_id);

-- When the department was told of an order last. `recorded_at` moves with every cause, and would tell a department that
-- something happened around an order of which it reads nothing new.
ALTER TABLE work_orders ADD COLUMN told_at timestamptz NOT NULL DEFAULT now();
UPDATE work_orders SET told_at = recorded_at;
CREATE FUNCTION work_orders_note_told() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.told_at := now();
  RETURN NEW;
END $$;
CREATE TRIGGER work_orders_told BEFORE UPDATE ON work_orders
  FOR EACH ROW WHEN (NEW.told <> OLD.told OR NEW.department <> OLD.department)
  EXECUTE FUNCTION work_orders_note_told();
CREATE INDEX work_orders_told_page ON work_orders (department, told_at, order_id);
