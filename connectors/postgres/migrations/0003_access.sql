-- Who may what: API keys, and the trail of who did what.

CREATE TABLE api_keys (
  key_id          text PRIMARY KEY,
  name            text   NOT NULL,           -- whose it is, for people
  roles           text[] NOT NULL CHECK (cardinality(roles) > 0),
  department      text,
  digest          bytea  NOT NULL CHECK (length(digest) = 32),  -- SHA-256 of the secret
  previous_digest bytea  CHECK (length(previous_digest) = 32),  -- of the secret before the last rotation …
  previous_until  timestamptz,               -- … which is good until then
  created_at      timestamptz NOT NULL,
  expires_at      timestamptz,
  revoked_at      timestamptz,
  last_used_at    timestamptz,               -- to the minute
  CHECK ((department IS NOT NULL) = ('department' = ANY (roles))),
  CHECK ((previous_digest IS NULL) = (previous_until IS NULL))
);

-- The audit trail. Each row's hash covers its content and the hash before it: see connectors/postgres/audit.py.
CREATE TABLE audit (
  seq     bigint PRIMARY KEY,                -- 1, 2, 3 … without gaps
  at      timestamptz NOT NULL,
  actor   text  NOT NULL,                    -- key:<id>, oidc:<subject>, cli:<user>, …
  action  text  NOT NULL,
  subject text  NOT NULL,
  outcome text  NOT NULL CHECK (outcome IN ('done', 'refused')),
  details text  NOT NULL,                    -- canonical JSON; text, because jsonb would not keep its bytes
  prev    bytea NOT NULL,
  hash    bytea NOT NULL
);
CREATE INDEX audit_actor ON audit (actor, seq);
CREATE INDEX audit_subject ON audit (subject, seq);

-- Where the chain ends. Its lock puts writers in line; and it knows of rows that were cut off at the end.
CREATE TABLE audit_head (
  one  boolean PRIMARY KEY DEFAULT true CHECK (one),
  seq  bigint NOT NULL,
  hash bytea  NOT NULL
);
INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

-- Adds rows to the chain. In the database, so that the head is locked for one statement and the commit, and not while
-- a caller far away computes hashes. `contents`: each row's canonical JSON from behind its time on.
CREATE FUNCTION audit_write(
  actors text[], actions text[], subjects text[], outcomes text[], details text[], contents text[]
) RETURNS audit_head LANGUAGE plpgsql AS $$
DECLARE
  head   audit_head;
  taken  timestamptz;
  stamp  text;
  digest bytea;
  entry  record;
BEGIN
  SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
  taken := clock_timestamp();                -- after the lock was had, so that times follow the chain
  stamp := to_char(taken AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"');
  FOR entry IN
    SELECT * FROM unnest(actors, actions, subjects, outcomes, details, contents)
      AS e(actor, action, subject, outcome, details, content)
  LOOP
    head.seq := head.seq + 1;
    digest := sha256(head.hash
      || convert_to('{"seq":' || head.seq || ',"at":"' || stamp || '",' || entry.content, 'UTF8'));
    INSERT INTO audit (seq, at, actor, action, subject, outcome, details, prev, hash)
    VALUES (head.seq, taken, entry.actor, entry.action, entry.subject, entry.outcome, entry.details,
            head.hash, digest);
    head.hash := digest;
  END LOOP;
  UPDATE audit_head SET seq = head.seq, hash = head.hash;
  RETURN head;
END $$;

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit trail is only ever added to: % of % is refused', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_head_stays BEFORE DELETE OR TRUNCATE ON audit_head
  FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_head_only_grows BEFORE UPDATE ON audit_head
  FOR EACH ROW WHEN (NEW.seq <= OLD.seq) EXECUTE FUNCTION audit_is_append_only();
