{#
    A name for the code that makes a model's rows: the checksum of its SQL and of the models it reads.

    An incremental model writes it beside the batch id, so that rows made by older code count as not built. The
    table an increment starts from may be two publishes old (the marts' schemas rotate).
#}
{% macro code_fingerprint() -%}
    {%- if execute -%}
        {%- set checksums = [] -%}
        {%- for node in [model.unique_id] + model.depends_on.nodes -%}
            {%- do checksums.append(graph.nodes[node].checksum.checksum) -%}
        {%- endfor -%}
        {{ local_md5(checksums | join) }}
    {%- endif -%}
{%- endmacro %}

{#
    Delete this model's rows of partitions that `relation` no longer has: a publish that was undone.

    A partition that was replaced is delete+insert's affair, from the one snapshot its rows were read in; deleting
    it here would leave a hole whenever a batch is published between the two statements.
#}
{% macro forget_missing_partitions(relation) -%}
    {%- if is_incremental() -%}
        delete from {{ this }} as built
        where not exists (
            select 1 from {{ relation }} as known
            where built.partition_key = known.partition_key
        )
    {%- endif -%}
{%- endmacro %}
