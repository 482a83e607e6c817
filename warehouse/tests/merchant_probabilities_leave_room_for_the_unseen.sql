-- The categories seen at a merchant never take all of the probability.
with

merchants as (
    select * from {{ ref('dim_merchants') }}
),

sums as (
    select
        merchants.merchant_key,
        sum(cast(category.value as numeric)) as probability
    from merchants
    cross join lateral jsonb_each_text(merchants.category_probabilities) as category
    group by merchants.merchant_key
),

overfull as (
    select * from sums
    where probability >= 1
)

select * from overfull
