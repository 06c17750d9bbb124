-- An update that came in over HTTP is pending at its order, also under an id that the department used at another one:
-- the address that its sender was given answers from the start.
ALTER TABLE submitted_updates
  DROP CONSTRAINT submitted_updates_pkey,
  ADD PRIMARY KEY (department, update_id, reference);
