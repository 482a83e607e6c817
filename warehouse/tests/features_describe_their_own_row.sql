-- Leakage: every feature of a training row says what its own transaction said when it happened. When the label came
-- does not matter.
with

training as (
    select * from {{ ref('fct_training_view') }}
),

transactions as (
    select * from {{ ref('stg_transactions') }}
),

leaks as (
    select training.txn_id
    from training
    inner join transactions on training.txn_id = transactions.txn_id
    where
        training.date <> transactions.txn_date
        or training.ts_month <> date_trunc('month', cast(transactions.txn_date as timestamp))
        or training.amount <> transactions.amount
        or training.abs_amount <> abs(transactions.amount)
        or training.dow <> extract(isodow from transactions.txn_date) - 1
        or training.is_weekend <> (extract(isodow from transactions.txn_date) >= 6)
        or training.hour_of_day is distinct from extract(hour from transactions.posted_at)
        or training.account <> transactions.account
        or training.user_id <> transactions.user_id
        or training.mcc <> transactions.mcc
)

select * from leaks
