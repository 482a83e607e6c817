with

labels as (
    select * from {{ ref('int_labels_as_of') }}
),

features as (
    select * from {{ ref('stg_ml_features') }}
),

transactions as (
    select * from {{ ref('stg_transactions') }}
),

training as (
    -- Nothing here can change after the fact: the label is the one known then, the features are a function of the
    -- transaction's own row, and that row is what the bank said.
    select
        labels.txn_id,
        labels.user_id,
        transactions.account,
        labels.label,
        labels.label_source,
        transactions.currency,
        features.merchant,
        features.mcc,
        features.channel,
        features.norm_desc,
        features.tokens,
        features.amount,
        features.abs_amount,
        labels.sample_weight,
        features.hour_of_day,
        features.dow,
        features.feature_version,
        features.is_weekend,
        features.is_subscription,
        transactions.txn_date as date,
        -- A timestamp, because pandas reads a date as Python objects that do not compare with '2025-10-01'.
        cast(features.ts_month as timestamp) as ts_month,
        labels.label_known_at,
        nullif({{ as_of() }}, 'infinity') as as_of
    from labels
    inner join features on labels.txn_id = features.txn_id
    inner join transactions on labels.txn_id = transactions.txn_id
    where
        features.amount <> 0
        and trim(features.merchant) <> ''
)

select * from training
