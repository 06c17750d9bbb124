-- Boundaries that were imported. Rows of both tables are added, and never changed: yesterday's decisions keep theirs.

-- One layer of one file: all community areas, all wards, some custom areas, the hot blocks of a year …
CREATE TABLE area_layers (
  version     text PRIMARY KEY,              -- hash of content
  kind        text NOT NULL CHECK (kind IN ('community_area', 'ward', 'beat', 'district', 'custom', 'block')),
  name        text NOT NULL,                 -- of the layers with one kind and name, the latest that is valid holds
  valid_from  timestamptz NOT NULL,
  features    int  NOT NULL,
  content     text NOT NULL,                 -- canonical JSON of the whole layer
  imported_by text NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now()
);

-- What may be in force: which layers there are, in which order they came, and what is read by other boundaries than
-- those of its time. Which set is in force is a line of `activations`.
CREATE TABLE area_sets (
  version     text PRIMARY KEY,              -- hash of content
  content     text NOT NULL,                 -- canonical JSON
  made_by     text NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now()
);
