with

source as (
    select * from {{ source('ledger', 'label_events') }}
),

renamed as (
    select
        id as label_event_id,
        txn_id,
        user_id,
        label,
        source as label_source,
        known_at,
        assumed_known_at
    from source
)

select * from renamed
