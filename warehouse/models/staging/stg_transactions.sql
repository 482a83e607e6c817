with

source as (
    select * from {{ source('ledger', 'transactions') }}
),

renamed as (
    -- Left out are merchant_canonical and category: a person may change them at any time, and what can change
    -- after the fact has no place in training data.
    select
        id as txn_id,
        user_id,
        account,
        currency,
        description,
        mcc,
        channel_hint,
        amount,
        date as txn_date,
        posted_at,
        created_at,
        known_at,
        assumed_known_at,
        deleted_at,
        deleted_periods
    from source
)

select * from renamed
