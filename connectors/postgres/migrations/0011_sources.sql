-- Sources of any other kind: files that were dropped, and what came of each source, hour by hour.

-- A file that somebody has picked up: how far it is taken in.
CREATE TABLE source_files (
  source      text NOT NULL,
  name        text NOT NULL,                 -- as it stands in working/; never used again
  pass        bigint NOT NULL,               -- a fence: who begins a pass takes the file over
  position    bigint NOT NULL DEFAULT 0,     -- rows durably accepted, refused or passed over
  accepted    bigint NOT NULL DEFAULT 0,
  refused     bigint NOT NULL DEFAULT 0,
  skipped     bigint NOT NULL DEFAULT 0,     -- rows that are not about our subject
  refusals    jsonb NOT NULL DEFAULT '[]',   -- the first of the refused rows, for the report: row, field, expected
  finished    boolean NOT NULL DEFAULT false,
  began_at    timestamptz NOT NULL DEFAULT now(),
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, name)
);

-- What came in through our own doors, by source and way, hour by hour; what is old is forgotten.
CREATE TABLE source_hours (
  source   text NOT NULL,
  way      text NOT NULL CHECK (way IN ('webhook', 'folder', 'rest', 'portal', 'replay')),
  hour     timestamptz NOT NULL,
  accepted bigint NOT NULL DEFAULT 0,
  refused  bigint NOT NULL DEFAULT 0,
  newest   timestamptz,                      -- the newest revision among what was accepted
  last_at  timestamptz NOT NULL,             -- the last time that something was accepted or nothing was new
  PRIMARY KEY (source, way, hour)
);

-- The last thing that went wrong with a source, in a sentence; gone when it works again.
CREATE TABLE source_problems (
  source  text NOT NULL,
  way     text NOT NULL,
  problem text NOT NULL,
  at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, way)
);

-- What was reported lately, whichever way it came. Reports are only ever added, so a few kilobytes are enough.
CREATE INDEX incident_reports_recorded ON incident_reports USING brin (recorded_at);
CREATE INDEX issue_reports_recorded ON issue_reports USING brin (recorded_at);
