-- The rows of a partition that wait to be repaired.
-- target: P95 of strategies/database.md
-- sample: SELECT DISTINCT dataset, partition FROM ops.batch
select refused_row_id, source_file, line, column_name, expected
from quarantine.refused_row
where dataset = %(dataset)s and partition = %(partition)s and state = 'open'
order by refused_row_id
