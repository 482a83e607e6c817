with

source as (
    select * from {{ source('ledger', 'ml_features') }}
),

renamed as (
    select
        txn_id,
        merchant,
        mcc,
        channel,
        norm_desc,
        tokens,
        amount,
        abs_amount,
        hour_of_day,
        dow,
        feature_version,
        is_weekend,
        is_subscription,
        ts_month,
        created_at
    from source
)

select * from renamed
