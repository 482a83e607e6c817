with

transactions as (
    select * from {{ ref('stg_transactions') }}
),

known as (
    -- The same conditions as in the function labels_as_of, for transactions that have no label. A test holds the two
    -- together.
    select
        txn_id,
        user_id,
        txn_date
    from transactions
    where
        cast(txn_date as timestamp) at time zone 'UTC' < {{ as_of() }}
        and {{ effective_known_at('assumed_known_at', 'known_at') }} < {{ as_of() }}
        and (deleted_at is null or deleted_at >= {{ as_of() }})
        and not deleted_periods @> {{ as_of() }}
)

select * from known
