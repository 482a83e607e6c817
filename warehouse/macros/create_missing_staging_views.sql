{#- Run before every dbt command that writes, so that a mart can be built alone on a fresh database: the views that
it reads are made if they are neither there nor about to be. -#}
{% macro create_missing_staging_views() %}
    {%- if execute %}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and 'staging' in node.tags %}
            {%- if node.unique_id not in selected_resources
                and load_relation(api.Relation.create(node.database, node.schema, node.alias)) is none %}
                {%- do run_query('create view ' ~ node.relation_name ~ ' as ' ~ render(node.raw_code)) %}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{% endmacro %}
