{#- When a recorded row counts as known: imported history on its own date, unless the var strict is true. -#}
{% macro effective_known_at(assumed_known_at, known_at) -%}
    {%- if var('strict') -%}
        {{ known_at }}
    {%- else -%}
        coalesce({{ assumed_known_at }}, {{ known_at }})
    {%- endif -%}
{%- endmacro %}
