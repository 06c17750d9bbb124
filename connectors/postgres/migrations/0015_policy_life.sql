-- What is in force since when: which policy, which boundaries of areas. Only ever added to; the last row of each `what`
-- holds. Going back is one more row.
CREATE TABLE activations (
  seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  what    text NOT NULL CHECK (what IN ('policy', 'areas')),
  version text NOT NULL,                     -- of a policy: policies.version
  at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  by      text NOT NULL,                     -- cli:<user>; rapid: the program itself, at its start
  why     text NOT NULL
);
CREATE INDEX activations_what ON activations (what, seq);

CREATE FUNCTION activations_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'activations are only ever added to: % is refused', TG_OP
    USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER activations_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON activations
  FOR EACH STATEMENT EXECUTE FUNCTION activations_are_append_only();
