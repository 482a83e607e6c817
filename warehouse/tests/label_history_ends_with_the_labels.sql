-- The triggers miss nothing: the last event of each transaction is its label, or a removal where it has none.
with

labels as (
    select * from {{ ref('stg_transaction_labels') }}
),

label_events as (
    select * from {{ ref('stg_label_events') }}
),

last_events as (
    select distinct on (txn_id) *
    from label_events
    order by txn_id asc, label_event_id desc
),

disagreements as (
    select
        labels.txn_id as labelled_txn_id,
        last_events.txn_id as event_txn_id
    from labels
    full outer join last_events on labels.txn_id = last_events.txn_id
    where (labels.label, labels.label_source) is distinct from (last_events.label, last_events.label_source)
)

select * from disagreements
