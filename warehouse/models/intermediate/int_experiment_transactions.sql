with

exposed as (
    select * from {{ ref('int_experiment_suggestions') }}
),

suggestions as (
    select * from {{ ref('stg_suggestion_events') }}
),

feedback as (
    select * from {{ ref('stg_suggestion_feedback') }}
),

label_history as (
    select * from {{ ref('stg_label_events') }}
),

category_names as (
    select * from {{ ref('stg_category_names') }}
),

-- Somebody looks at a transaction as often as they like and means one thing by it, so it counts once in a period. In
-- one, the shares of the arms and the versions that were due for them stood still.
asked as (
    select
        experiment_id,
        change_id,
        versions,
        txn_id,
        (array_agg(experiment_unit order by suggested_at, event_id))[1] as experiment_unit,
        (array_agg(arm order by suggested_at, event_id))[1] as arm,
        (array_agg(first_label order by suggested_at desc, event_id desc))[1] as first_label,
        (array_agg(action order by answered_at desc, event_id desc) filter (where action is not null))[1] as action,
        bool_or(is_fallback) as is_fallback,
        min(suggested_at) as first_suggested_at,
        max(suggested_at) as last_suggested_at
    from exposed
    group by experiment_id, change_id, versions, txn_id
),

-- How many rows these are the planner cannot know, and to join as if there were one would take forever; so what is
-- known of a transaction is looked up by index.
labelled as (
    select
        asked.*,
        said.is_labelled,
        said.truth,
        coalesce(said.truth = any(said.independent_labels), false) as is_vouched
    from asked
    cross join
        lateral (
            select
                (
                    array_agg(
                        coalesce(category_names.shown_as, label_history.label)
                        order by label_history.label_event_id desc
                    )
                )[1] as truth,
                -- An accept says what was shown, so that alone says nothing about whether it was right.
                array_agg(coalesce(category_names.shown_as, label_history.label)) filter (
                    where label_history.label_source = 'human'
                    and asked.first_suggested_at < label_history.known_at
                    and answers.is_accept is not true
                ) as independent_labels,
                bool_or(
                    label_history.label_source = 'human'
                    and asked.first_suggested_at < label_history.known_at
                    and answers.is_accept is null
                ) as is_labelled
            from label_history
            left join category_names
                on
                    label_history.user_id = category_names.user_id
                    and label_history.label = category_names.word
                    and category_names.valid_to is null
            -- An answer to any suggestion of the transaction and the label that it writes are recorded in one
            -- transaction of the database.
            cross join
                lateral (
                    select bool_or(feedback.action = 'accept') as is_accept
                    from suggestions
                    inner join feedback on suggestions.event_id = feedback.event_id
                    where
                        suggestions.txn_id = label_history.txn_id
                        and feedback.answered_at = label_history.known_at
                ) as answers
            where label_history.txn_id = asked.txn_id
        ) as said
),

final as (
    select
        concat_ws(':', change_id, versions, txn_id) as experiment_transaction,
        experiment_id,
        change_id,
        txn_id,
        experiment_unit,
        arm,
        versions,
        -- Which transactions become known by an answer is partly the arm's doing, so silence is no acceptance either.
        cast(cast(coalesce(action = 'accept', false) as integer) as numeric(1, 0)) as is_accepted,
        cast(
            case
                when first_label is null or not is_vouched then null
                when first_label = truth then 1
                else 0
            end as numeric(1, 0)
        ) as is_correct,
        cast(cast(first_label is not null as integer) as numeric(1, 0)) as is_covered,
        cast(cast(is_fallback as integer) as numeric(1, 0)) as is_fallback,
        action is not null or coalesce(is_labelled, false) as is_answered,
        first_suggested_at,
        last_suggested_at
    from labelled
)

select * from final
