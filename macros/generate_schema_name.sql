{#
    The schema a folder is built in: the one named by the variable `<schema>_schema`, else `<schema>` itself.

    Without this, dbt would prefix the profile's schema. The variable is what lets publish build the marts
    beside the ones being read.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set schema = custom_schema_name or target.schema -%}
    {{ var(schema ~ "_schema", schema) }}
{%- endmacro %}
