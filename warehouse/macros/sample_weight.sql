{#- The weight of a label by its source. -#}
{% macro sample_weight(source_column) -%}
    cast(
        case {{ source_column }}
            when 'human' then {{ var('sample_weight_human') }}
            when 'rule' then {{ var('sample_weight_rule') }}
            when 'import' then {{ var('sample_weight_import') }}
        end as numeric(18, 2)
    )
{%- endmacro %}
