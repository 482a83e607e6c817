{#- An incremental model never removes rows by itself, so those whose suggestion was deleted are removed here, by the
    column that names the suggestion. Erasing a person deletes none: their suggestions stay, with user_id null. -#}
{% macro delete_erased_suggestions(event_id='event_id') %}
    delete from {{ this }} as stored
    where not exists (
        select events.event_id from {{ ref('stg_suggestion_events') }} as events
        where events.event_id = stored.{{ event_id }}
    )
{% endmacro %}
