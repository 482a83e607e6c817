{{ config(
    materialized='incremental',
    unique_key='event_id',
    incremental_strategy='delete+insert',
    on_schema_change='fail',
    post_hook="{{ delete_erased_suggestions() }}"
) }}

with

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

transactions as (
    select * from {{ ref('stg_transactions') }}
),

-- Suggestions and labels keep their words when a category is renamed or merged; they are compared under today's names.
names_today as (
    select * from category_names
    where valid_to is null
),

label_events as (
    select
        label_history.label_event_id,
        label_history.txn_id,
        coalesce(names_today.shown_as, label_history.label) as shown_label,
        label_history.label_source,
        label_history.known_at
    from label_history
    left join names_today on label_history.user_id = names_today.user_id and label_history.label = names_today.word
),

-- What the challenger computed in shadow was shown to nobody.
served as (
    select * from suggestions
    where suggestion_source <> 'shadow'
),

last_feedback as (
    select distinct on (event_id) *
    from feedback
    order by event_id asc, answered_at desc, feedback_id desc
),

-- An undo takes the answer back: the suggestion is unanswered again. What was suggested is the candidate that was
-- accepted, else the first one; a label that was typed instead is no candidate.
answered_in_old_words as (
    select
        served.*,
        nullif(last_feedback.action, 'undo') as action,
        case when last_feedback.action <> 'undo' then last_feedback.answered_at end as answered_at,
        case
            when
                last_feedback.action = 'accept'
                and (
                    served.candidates @> jsonb_build_array(jsonb_build_object('label', last_feedback.answered_label))
                    or served.candidates @> jsonb_build_array(last_feedback.answered_label)
                )
                then last_feedback.answered_label
            else served.top_label
        end as suggested_word
    from served
    left join last_feedback on served.event_id = last_feedback.event_id
),

answered as (
    select
        answered_in_old_words.*,
        coalesce(names_today.shown_as, answered_in_old_words.suggested_word) as suggested_label
    from answered_in_old_words
    left join names_today
        on
            answered_in_old_words.user_id = names_today.user_id
            and answered_in_old_words.suggested_word = names_today.word
),

-- The last word on each transaction. Events of one transaction are numbered in the order in which they happened.
last_label_event as (
    select distinct on (txn_id) *
    from label_events
    where txn_id in (select served.txn_id from served)
    order by txn_id asc, label_event_id desc
),

-- Suggestions whose transaction's label stands on more than their own acceptance: an event that says the same and
-- was not written by it, that is, by a person's label recorded in the very transaction of an accept.
vouched as (
    select distinct answered.event_id
    from answered
    inner join last_label_event on answered.txn_id = last_label_event.txn_id
    inner join label_events
        on
            answered.txn_id = label_events.txn_id
            and last_label_event.shown_label = label_events.shown_label
    left join feedback as accepts
        on
            answered.event_id = accepts.event_id
            and accepts.action = 'accept'
            and label_events.label_source = 'human'
            and label_events.known_at = accepts.answered_at
    where accepts.feedback_id is null
),

judged as (
    select
        answered.event_id,
        answered.txn_id,
        answered.user_id,
        case answered.suggestion_source when 'rule' then 'heuristic' else 'model' end as suggestion_mode,
        answered.requested_mode,
        answered.model_version,
        answered.experiment,
        answered.arm,
        answered.suggested_label,
        answered.action,
        last_label_event.shown_label as current_label,
        last_label_event.label_source as current_label_source,
        answered.top_confidence,
        answered.propensity,
        -- Where nothing was suggested, a rejection only says what it is: it is no verdict on a suggestion.
        cast(
            case
                when answered.suggested_label is null then null
                when answered.action = 'accept' then 1
                when answered.action = 'reject' then 0
            end as numeric(1, 0)
        ) as is_accepted,
        cast(
            case
                when answered.action is distinct from 'accept' or answered.suggested_label is null then null
                when last_label_event.shown_label = answered.suggested_label then 1
                -- Changed, or taken away by the person. A transaction that is gone took its label with it, and one
                -- that never had a label says nothing.
                when last_label_event.shown_label is not null or last_label_event.txn_id = transactions.txn_id then 0
            end as numeric(1, 0)
        ) as is_correct_accept,
        cast(
            case
                when answered.action is distinct from 'reject' or answered.suggested_label is null then null
                when last_label_event.shown_label <> answered.suggested_label then 1
                when last_label_event.shown_label = answered.suggested_label then 0
            end as numeric(1, 0)
        ) as is_correct_reject,
        vouched.event_id is not null as has_independent_truth,
        answered.suggested_at,
        answered.answered_at,
        last_label_event.known_at as label_known_at
    from answered
    left join last_label_event on answered.txn_id = last_label_event.txn_id
    left join transactions on answered.txn_id = transactions.txn_id
    left join vouched on answered.event_id = vouched.event_id
),

-- An answer, a label or an erasure may come weeks later, and with a timestamp older than others that were seen
-- before it. So no watermark decides which rows to write but the rows themselves: those that are not stored as they
-- should be.
changed as (
    select * from judged
    {%- if is_incremental() %}
        except
        select * from {{ this }}
    {%- endif %}
)

select * from changed
