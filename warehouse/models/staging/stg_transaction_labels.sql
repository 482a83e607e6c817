with

source as (
    select * from {{ source('ledger', 'transaction_labels') }}
),

renamed as (
    select
        txn_id,
        label,
        source as label_source,
        created_at,
        updated_at
    from source
)

select * from renamed
