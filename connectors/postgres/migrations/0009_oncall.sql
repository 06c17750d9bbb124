-- Who stands in for whom: exceptions to what the policy says about people on call.
CREATE TABLE oncall_overrides (
  override_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- of those that overlap, the highest holds
  role         text NOT NULL,
  department   text,                         -- NULL: all
  area         int,                          -- NULL: all
  person       text,                         -- NULL: nobody
  since        timestamptz NOT NULL,
  until        timestamptz NOT NULL,
  made_by      text NOT NULL,
  why          text NOT NULL,
  made_at      timestamptz NOT NULL DEFAULT now(),
  source       text,                         -- the event of a calendar that it was read from; NULL: made by hand
  cancelled_at timestamptz,                  -- it held until then, if it had begun
  cancelled_by text,
  CHECK (since < until)
);
CREATE INDEX oncall_overrides_until ON oncall_overrides (until) WHERE cancelled_at IS NULL;
CREATE INDEX oncall_overrides_source ON oncall_overrides (source) WHERE cancelled_at IS NULL AND source IS NOT NULL;
