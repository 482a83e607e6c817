{#- The moment of the var as_of as SQL: now() when it is null, else a timestamptz; without an offset it is UTC. -#}
{% macro as_of() %}
    {%- set moment = var('as_of') %}
    {%- if moment is none -%}
        now()
    {%- elif moment == 'infinity' -%}
        cast('infinity' as timestamptz)
    {%- else -%}
        {%- set parsed = modules.datetime.datetime.fromisoformat(moment | string) %}
        {%- if parsed.tzinfo is none %}
            {%- set parsed = parsed.replace(tzinfo=modules.pytz.utc) %}
        {%- endif -%}
        cast('{{ parsed.isoformat() }}' as timestamptz)
    {%- endif -%}
{% endmacro %}
