with

source as (
    select * from {{ source('ledger', 'suggestion_feedback') }}
),

renamed as (
    select
        id as feedback_id,
        event_id,
        action,
        label as answered_label,
        created_at as answered_at
    from source
)

select * from renamed
