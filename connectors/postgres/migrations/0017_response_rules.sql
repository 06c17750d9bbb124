-- By which policy and which boundaries a response was decided, `<policy version>/<number of the boundaries>`; NULL: before
-- there was this column. And whether it carries on anything of earlier ones. Triage looks at the rows that others
-- decided, or that carry something, before it decides again; the rest has nothing to tell it.
ALTER TABLE responses ADD COLUMN rules text;
ALTER TABLE responses ADD COLUMN carries boolean NOT NULL DEFAULT false;
