with

transactions as (
    select * from {{ ref('int_transactions_as_of') }}
),

labels as (
    select * from {{ ref('int_labels_as_of') }}
),

features as (
    select * from {{ ref('stg_ml_features') }}
),

-- What is known of each transaction of a merchant. The merchant is the features', which the description alone
-- decides, so that renaming one changes nothing here.
known as (
    select
        transactions.user_id,
        features.merchant,
        labels.label,
        labels.label_source,
        labels.sample_weight,
        features.is_subscription,
        transactions.txn_date
    from transactions
    inner join features on transactions.txn_id = features.txn_id
    left join labels on transactions.txn_id = labels.txn_id
    where trim(features.merchant) <> ''
),

merchants as (
    select
        user_id,
        merchant,
        count(*) as transaction_count,
        count(label) as label_count,
        count(*) filter (where label_source = 'human') as human_label_count,
        coalesce(sum(sample_weight), 0) as label_weight,
        count(*) filter (where is_subscription) * 2 > count(*) as is_subscription,
        min(txn_date) as first_seen,
        max(txn_date) as last_seen
    from known
    group by user_id, merchant
),

merchant_categories as (
    select
        user_id,
        merchant,
        label,
        count(*) as label_count,
        sum(sample_weight) as label_weight
    from known
    where label is not null
    group by user_id, merchant, label
),

user_categories as (
    select
        user_id,
        label,
        sum(label_weight) as label_weight
    from merchant_categories
    group by user_id, label
),

-- The user's own base rate, smoothed: one is added to each category, and to one more that stands for all that the
-- user has not used yet.
base_rates as (
    select
        user_id,
        label,
        (label_weight + 1)
        / (sum(label_weight) over (partition by user_id) + count(*) over (partition by user_id) + 1) as base_rate
    from user_categories
),

probabilities as (
    select
        merchant_categories.user_id,
        merchant_categories.merchant,
        merchant_categories.label,
        merchant_categories.label_count,
        cast(
            (merchant_categories.label_weight + {{ var('prior_strength') }} * base_rates.base_rate)
            / (merchants.label_weight + {{ var('prior_strength') }}) as numeric(10, 9)
        ) as probability
    from merchant_categories
    inner join merchants
        on
            merchant_categories.user_id = merchants.user_id
            and merchant_categories.merchant = merchants.merchant
    inner join base_rates
        on
            merchant_categories.user_id = base_rates.user_id
            and merchant_categories.label = base_rates.label
),

-- Names are compared byte by byte, so that a tie falls the same way on every server and in Python.
category_lists as (
    select
        user_id,
        merchant,
        (array_agg(label order by probability desc, label collate "C" asc))[1] as top_category,
        max(probability) as top_probability,
        (array_agg(label_count order by probability desc, label collate "C" asc))[1] as top_label_count,
        jsonb_object_agg(label, probability) as category_probabilities
    from probabilities
    group by user_id, merchant
),

bounded as (
    select
        merchants.*,
        category_lists.top_category,
        category_lists.top_probability,
        coalesce(category_lists.category_probabilities, '{}') as category_probabilities,
        {{ wilson_bound('category_lists.top_label_count', 'merchants.label_count', '-') }} as top_share_lower,
        {{ wilson_bound('category_lists.top_label_count', 'merchants.label_count', '+') }} as top_share_upper
    from merchants
    left join category_lists
        on
            merchants.user_id = category_lists.user_id
            and merchants.merchant = category_lists.merchant
),

final as (
    select
        md5(user_id || ':' || merchant) as merchant_key,
        user_id,
        merchant,
        top_category,
        case
            when top_share_lower >= {{ var('confidence_high') }} then 'high'
            when top_share_lower >= {{ var('confidence_medium') }} then 'medium'
            else 'low'
        end as confidence,
        category_probabilities,
        top_probability,
        top_share_lower,
        top_share_upper,
        transaction_count,
        label_count,
        human_label_count,
        is_subscription,
        first_seen,
        last_seen,
        nullif({{ as_of() }}, 'infinity') as as_of
    from bounded
)

select * from final
