with

suggestions as (
    select * from {{ ref('stg_suggestion_events') }}
),

experiments as (
    select * from {{ ref('stg_experiments') }}
),

arms as (
    select * from {{ ref('stg_experiment_arms') }}
),

changes as (
    select * from {{ ref('stg_experiment_changes') }}
),

feedback as (
    select * from {{ ref('stg_suggestion_feedback') }}
),

category_names as (
    select * from {{ ref('stg_category_names') }}
),

-- What was randomised, and what was due for each arm, is what the suggestion itself kept of it: whatever is derived
-- later may have changed since. Where nothing was kept, nothing is known, and what was kept of an experiment that is
-- gone is no part of another one of its name.
final as (
    select
        suggestions.event_id,
        experiments.experiment_id,
        changes.change_id,
        suggestions.txn_id,
        suggestions.user_id,
        experiments.experiment,
        experiments.experiment || ':' || suggestions.exposure_unit as experiment_unit,
        suggestions.exposure_versions as versions,
        suggestions.arm,
        coalesce(category_names.shown_as, suggestions.top_label) as first_label,
        last_feedback.action,
        suggestions.propensity,
        case
            when arms.engine <> 'rule' and not suggestions.is_by_own_rule then suggestions.suggestion_source = 'rule'
        end as is_fallback,
        suggestions.suggested_at,
        last_feedback.answered_at
    from suggestions
    inner join experiments on suggestions.experiment = experiments.experiment
    inner join arms on experiments.experiment_id = arms.experiment_id and suggestions.arm = arms.arm
    inner join changes
        on
            experiments.experiment_id = changes.experiment_id
            and suggestions.exposure_change_id = changes.change_id
    left join category_names
        on
            suggestions.user_id = category_names.user_id
            and suggestions.top_label = category_names.word
            and category_names.valid_to is null
    -- An undo takes the answer back.
    left join
        lateral (
            select
                feedback.action,
                feedback.answered_at
            from feedback
            where feedback.event_id = suggestions.event_id
            order by feedback.answered_at desc, feedback.feedback_id desc
            limit 1
        ) as last_feedback
        on last_feedback.action <> 'undo'
    where
        suggestions.suggestion_source <> 'shadow'
        and suggestions.user_id is not null
        and suggestions.exposure_unit is not null
)

select * from final
