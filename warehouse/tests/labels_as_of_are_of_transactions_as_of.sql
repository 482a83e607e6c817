-- The two ways to say which transactions were known at a moment agree.
with

labels as (
    select * from {{ ref('int_labels_as_of') }}
),

transactions as (
    select * from {{ ref('int_transactions_as_of') }}
),

strays as (
    select labels.txn_id
    from labels
    left join transactions on labels.txn_id = transactions.txn_id
    where transactions.txn_id is null
)

select * from strays
