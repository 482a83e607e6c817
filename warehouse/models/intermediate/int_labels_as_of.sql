-- The database's own as-of read, called with the moment of this run. It reads these three, and gives each label under
-- the name that it was shown under at that moment:
-- depends_on: {{ ref('stg_category_names') }}
-- depends_on: {{ ref('stg_label_events') }}
-- depends_on: {{ ref('stg_transactions') }}
with

labels as (
    select * from public.labels_as_of({{ as_of() }}, {{ var('strict') }})
),

valid as (
    select
        txn_id,
        user_id,
        label,
        label_source,
        {{ sample_weight('label_source') }} as sample_weight,
        {{ effective_known_at('label_assumed_known_at', 'label_known_at') }} as label_known_at
    from labels
    where trim(label) <> ''
)

select * from valid
