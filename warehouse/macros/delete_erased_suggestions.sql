{#- Suggestions go when the person they were made for is erased; an incremental model never removes rows by itself. -#}
{% macro delete_erased_suggestions() %}
    delete from {{ this }} as stored
    where not exists (
        select events.event_id from {{ ref('stg_suggestion_events') }} as events
        where events.event_id = stored.event_id
    )
{% endmacro %}
