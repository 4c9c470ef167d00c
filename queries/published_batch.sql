-- The batch that readers see of a partition.
-- target: P95 of strategies/database.md
-- sample: SELECT dataset, partition FROM ops.batch WHERE state = 'published'
select batch_id, contract_version, accepted_count, published_at
from ops.batch
where dataset = %(dataset)s and partition = %(partition)s and state = 'published'
