{{ config(
    materialized='incremental',
    unique_key='comparison',
    incremental_strategy='delete+insert',
    on_schema_change='fail',
    post_hook="{{ delete_erased_suggestions('shadow_event_id') }}"
) }}

with

suggestions as (
    select * from {{ ref('stg_suggestion_events') }}
),

evaluation as (
    select * from {{ ref('fct_suggestions_eval') }}
),

feedback as (
    select * from {{ ref('stg_suggestion_feedback') }}
),

label_history as (
    select * from {{ ref('stg_label_events') }}
),

model_versions as (
    select * from {{ ref('stg_model_versions') }}
),

category_names as (
    select * from {{ ref('stg_category_names') }}
),

names_today as (
    select * from category_names
    where valid_to is null
),

-- What comes first is what a person sees or would have seen; under today's names, as labels are.
first_candidates as (
    select
        suggestions.*,
        coalesce(names_today.shown_as, suggestions.top_label) as first_label
    from suggestions
    left join names_today on suggestions.user_id = names_today.user_id and suggestions.top_label = names_today.word
),

pairs as (
    select
        served.event_id as served_event_id,
        shadows.event_id as shadow_event_id,
        served.txn_id,
        served.user_id,
        model_versions.category_set,
        served.suggestion_source as served_source,
        served.model_version as served_version,
        shadows.model_version as challenger_version,
        served.first_label as champion_label,
        shadows.first_label as challenger_label,
        served.top_confidence as champion_confidence,
        shadows.top_confidence as challenger_confidence,
        served.suggested_at
    from first_candidates as shadows
    inner join first_candidates as served on shadows.served_event_id = served.event_id
    left join model_versions on shadows.model_version = model_versions.model_version
    where shadows.suggestion_source = 'shadow' and served.suggestion_source <> 'shadow'
),

-- A label is a verdict on a suggestion that came before it or that was answered. One that was there already was known
-- to whoever suggested. What a rule says is no verdict: it is an engine's word, too.
truths as (
    select
        event_id,
        txn_id,
        suggested_at,
        current_label as truth,
        current_label_source as truth_source,
        label_known_at as truth_known_at
    from evaluation
    where
        event_id in (select pairs.served_event_id from pairs)
        and current_label_source in ('human', 'import')
        and (action is not null or label_known_at > suggested_at)
),

-- What was accepted is what was shown, so an accept leans towards the champion: that of any suggestion of the
-- transaction, for a person who is asked twice answers once.
accepts as (
    select
        suggestions.txn_id,
        feedback.answered_at
    from feedback
    inner join suggestions on feedback.event_id = suggestions.event_id
    where feedback.action = 'accept'
),

label_events as (
    select
        label_history.txn_id,
        coalesce(names_today.shown_as, label_history.label) as shown_label,
        label_history.label_source,
        label_history.known_at
    from label_history
    left join names_today on label_history.user_id = names_today.user_id and label_history.label = names_today.word
),

vouched as (
    select distinct truths.event_id
    from truths
    inner join label_events
        on
            truths.txn_id = label_events.txn_id
            and truths.truth = label_events.shown_label
            and label_events.label_source in ('human', 'import')
            and truths.suggested_at < label_events.known_at
    left join accepts
        on
            label_events.txn_id = accepts.txn_id
            and label_events.label_source = 'human'
            and label_events.known_at = accepts.answered_at
    where accepts.txn_id is null
),

compared as (
    select
        pairs.served_event_id || ':' || pairs.challenger_version as comparison,
        pairs.served_event_id,
        pairs.shadow_event_id,
        pairs.txn_id,
        pairs.user_id,
        pairs.category_set,
        pairs.served_source,
        pairs.served_version,
        pairs.challenger_version,
        pairs.champion_label,
        pairs.challenger_label,
        truths.truth,
        truths.truth_source,
        pairs.champion_confidence,
        pairs.challenger_confidence,
        -- Whoever offers nothing is not right; the covered flags tell silence from error.
        cast(
            case
                when truths.truth = pairs.champion_label then 1
                when truths.truth is not null then 0
            end as numeric(1, 0)
        ) as champion_is_correct,
        cast(
            case
                when truths.truth = pairs.challenger_label then 1
                when truths.truth is not null then 0
            end as numeric(1, 0)
        ) as challenger_is_correct,
        pairs.champion_label is not null as champion_is_covered,
        pairs.challenger_label is not null as challenger_is_covered,
        coalesce(
            pairs.champion_label = pairs.challenger_label,
            pairs.champion_label is null and pairs.challenger_label is null
        ) as agrees,
        truths.event_id is not null or coalesce(evaluation.action = 'reject', false) as is_answered,
        vouched.event_id is not null as has_independent_truth,
        pairs.suggested_at,
        truths.truth_known_at
    from pairs
    left join evaluation on pairs.served_event_id = evaluation.event_id
    left join truths on pairs.served_event_id = truths.event_id
    left join vouched on pairs.served_event_id = vouched.event_id
),

-- As in fct_suggestions_eval no watermark decides, but the rows that are not stored as they should be.
changed as (
    select * from compared
    {%- if is_incremental() %}
        except
        select * from {{ this }}
    {%- endif %}
)

select * from changed
