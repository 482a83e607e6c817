with

suggestions as (
    select * from {{ ref('stg_suggestion_events') }}
),

evaluation as (
    select * from {{ ref('fct_suggestions_eval') }}
),

experiments as (
    select * from {{ ref('stg_experiments') }}
),

features as (
    select * from {{ ref('stg_ml_features') }}
),

category_names as (
    select * from {{ ref('stg_category_names') }}
),

names_today as (
    select * from category_names
    where valid_to is null
),

-- What was randomised is a user, or a user's merchant; a user where the description gives none. Erased people's
-- suggestions cannot be told apart by unit any more.
in_experiments as (
    select
        suggestions.event_id,
        experiments.experiment_id,
        suggestions.user_id,
        experiments.experiment,
        case when experiments.unit = 'user_merchant' then nullif(features.merchant, '') end as merchant,
        suggestions.arm,
        coalesce(names_today.shown_as, suggestions.top_label) as first_label,
        suggestions.propensity,
        suggestions.suggested_at
    from suggestions
    inner join experiments on suggestions.experiment = experiments.experiment
    left join features on suggestions.txn_id = features.txn_id
    left join names_today on suggestions.user_id = names_today.user_id and suggestions.top_label = names_today.word
    where suggestions.suggestion_source <> 'shadow' and suggestions.user_id is not null
),

-- Where nothing but its own accept vouches for the label, that says nothing about a suggestion's precision.
final as (
    select
        in_experiments.event_id,
        in_experiments.experiment_id,
        in_experiments.user_id,
        in_experiments.experiment,
        concat_ws(':', in_experiments.experiment, in_experiments.user_id, in_experiments.merchant) as experiment_unit,
        in_experiments.merchant,
        in_experiments.arm,
        in_experiments.propensity,
        evaluation.is_accepted,
        cast(
            case
                when in_experiments.first_label is null or not evaluation.has_independent_truth then null
                when evaluation.current_label = in_experiments.first_label then 1
                else 0
            end as numeric(1, 0)
        ) as is_correct,
        cast(cast(in_experiments.first_label is not null as integer) as numeric(1, 0)) as is_covered,
        in_experiments.suggested_at
    from in_experiments
    inner join evaluation on in_experiments.event_id = evaluation.event_id
)

select * from final
