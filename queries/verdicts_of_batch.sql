-- What the gates said of one batch.
-- target: P95 of strategies/database.md
-- sample: SELECT batch_id FROM ops.batch
select gate, rule, verdict, value, target
from ops.verdict
where subject = %(batch_id)s
order by verdict_id
