{#- Suggestions go when the person they were made for is erased; an incremental model never removes rows by itself. -#}
{% macro delete_erased_suggestions() %}
    delete from {{ this }}
    where event_id not in (select event_id from {{ ref('stg_suggestion_events') }})
{% endmacro %}
