-- What 0013 and 0016 began to keep, for what was there before them.

-- Responses without a life: each is looked at now, and then lives and is closed like any other. Its own timer is the
-- wake-up; where it has a life by then, one look too many changes nothing.
INSERT INTO timers (subject_id, key, reference, due_at, nudge_at, kind)
SELECT r.response_id, r.incident_id::text, r.response_id::text, now(), now(), 'response' FROM responses r
WHERE NOT EXISTS (SELECT 1 FROM response_life l WHERE l.response_id = r.response_id)
ON CONFLICT (subject_id) DO NOTHING;

-- Dead letters that no tally counts: without it the report of the hour of the upgrade, and of the one that it is
-- compared with, says that nothing was refused.
INSERT INTO dead_letter_tallies (at, source, topic, reason, records, example)
SELECT d.recorded_at, d.source, d.topic, d.reason, 1, d.dead_letter_id FROM dead_letters d
WHERE d.recorded_at < (SELECT applied_at FROM migrations WHERE number = 16);
