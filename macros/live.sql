{#
    What a model of the materialization `live` says of itself, under `meta: live` in its configuration:

    - `dataset`: the stream whose rows it follows; the model reads it as a source.
    - `key`: each column of its grain, with the source's column or expression that makes it.
    - `window`: `{column, hours}`: a row lives for so many hours of event time after that column of its key.
#}
{% macro live_config() -%}
    {%- set told = model.config.get("meta", {}).get("live") -%}
    {%- if not told or not told.dataset or not told.key or told.window.column not in told.key -%}
        {{ exceptions.raise_compiler_error(
            "a live model says in meta.live which `dataset` it follows, its `key`, and a `window` over a column of that key"
        ) }}
    {%- endif -%}
    {{ return(told) }}
{%- endmacro %}

{#
    True for rows whose `column` lies in the window: its hours back from the newest event that the stream has had,
    with everything after it. What is ahead is never cut off, so a group comes into the window with a row, and never without one.
#}
{% macro in_window(column) -%}
    {% if execute %}{{ column }} > {{ window_start() }}{% else %}true{% endif %}
{%- endmacro %}

{% macro window_start() -%}
    {%- set told = live_config() -%}
    (select max(newest_event_at) from ops.stream_offset where dataset = '{{ told.dataset }}') - interval '{{ told.window.hours }} hours'
{%- endmacro %}

{# The rows of the stream that the model follows, as a relation. #}
{% macro live_source() -%}
    {%- set told = live_config() -%}
    {%- for id in model.depends_on.nodes if id in graph.sources and graph.sources[id].name == told.dataset -%}
        {%- set found = graph.sources[id] -%}
        {{ return(found.schema ~ "." ~ found.identifier) }}
    {%- endfor -%}
    {{ exceptions.raise_compiler_error("a live model reads the stream that it follows as a source: " ~ told.dataset) }}
{%- endmacro %}

{#
    A table that follows a stream between two builds.

    dbt makes the table and writes its SELECT down in ops.stream_mart; filling it, now and after each micro-batch, is
    ops.refresh_mart's affair, from that same SELECT. Where the stream has no table yet, the mart is there, and empty.
#}
{% materialization live, adapter='postgres' %}
    {%- set told = live_config() -%}
    {%- set source = live_source() -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- if not config.get('contract').enforced -%}
        {{ exceptions.raise_compiler_error("a live model enforces its contract: its table is made before there are rows") }}
    {%- endif -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- if run_query("select to_regclass('" ~ source ~ "') is not null as there").rows[0]["there"] -%}
        {%- do get_assert_columns_equivalent(sql) -%}
    {%- endif -%}
    {# Before the table: a worker that refreshes it ends first, and the next one finds nothing to do. #}
    {% call statement('forget') -%}
        delete from ops.stream_mart
        where mart = to_regclass('{{ target_relation }}') or not exists (select 1 from pg_class where oid = mart)
    {%- endcall %}
    {% if existing is not none %}{% do adapter.drop_relation(existing) %}{% endif %}
    {% call statement('make') -%}
        create table {{ target_relation }} {{ get_table_columns_and_constraints() }};
        alter table {{ target_relation }} add primary key ({{ told.key.keys() | join(", ") }})
    {%- endcall %}
    {% do create_indexes(target_relation) %}
    {% call statement('main') -%}
        insert into ops.stream_mart (mart, dataset, source, key_columns, definition, touched, outlived)
        values (
            '{{ target_relation }}'::regclass, '{{ told.dataset }}', '{{ source }}',
            array['{{ told.key.keys() | join("', '") }}'],
            $live${{ get_select_subquery(sql) }}$live$,
            $live$
                select distinct {% for column, made in told.key.items() %}{{ made }} as {{ column }}{{ ", " if not loop.last }}{% endfor %}
                from {{ source }}
                where _batch_id = any($1) and {{ in_window(told.key[told.window.column]) }}
            $live$,
            $live$mart.{{ told.window.column }} <= {{ window_start() }}$live$
        );
        select ops.refresh_mart('{{ target_relation }}'::regclass)
    {%- endcall %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do apply_grants(target_relation, config.get('grants'), should_revoke=True) %}
    {% do persist_docs(target_relation, model) %}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}
