with

suggestions as (
    select * from {{ ref('int_experiment_suggestions') }}
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

-- Across a change of the arms' shares a drift would look like a difference of the arms, so each change begins anew.
changes_in_order as (
    select
        change_id,
        experiment_id,
        action,
        changed_at as began_at,
        lead(action) over experiment_in_time as next_action,
        lead(changed_at) over experiment_in_time as ended_at
    from changes
    window experiment_in_time as (partition by experiment_id order by changed_at, change_id)
),

-- Of changes made at once the last one counts.
periods as (
    select
        change_id,
        experiment_id,
        coalesce(next_action = 'stop', true) as is_latest,
        began_at,
        ended_at
    from changes_in_order
    where action <> 'stop' and began_at < coalesce(ended_at, 'infinity')
),

outcomes as (
    select
        periods.change_id,
        suggestions.arm,
        suggestions.experiment_unit,
        outcome.outcome,
        outcome.success
    from suggestions
    inner join periods
        on
            suggestions.experiment_id = periods.experiment_id
            and suggestions.suggested_at >= periods.began_at
            and suggestions.suggested_at < coalesce(periods.ended_at, 'infinity')
    cross join
        lateral (
            values
            ('acceptance', suggestions.is_accepted),
            ('precision', suggestions.is_correct),
            ('coverage', suggestions.is_covered)
        ) as outcome (outcome, success)
    where outcome.success is not null
),

-- Units and not answers are what is independent, so what a variance follows from is summed up by unit first.
units as (
    select
        change_id,
        arm,
        outcome,
        count(*) as answers,
        cast(sum(success) as bigint) as successes
    from outcomes
    group by change_id, arm, outcome, experiment_unit
),

moments as (
    select
        change_id,
        arm,
        outcome,
        count(*) as units,
        sum(answers) as answers,
        sum(successes) as successes,
        sum(answers * answers) as answer_squares,
        sum(successes * successes) as success_squares,
        sum(answers * successes) as products
    from units
    group by change_id, arm, outcome
),

-- An arm that nobody answered yet is there, with nothing.
expected as (
    select
        periods.change_id,
        experiments.experiment_id,
        experiments.experiment,
        arms.arm,
        outcome.outcome,
        arms.is_control,
        periods.is_latest,
        periods.began_at,
        periods.ended_at
    from periods
    inner join experiments on periods.experiment_id = experiments.experiment_id
    inner join arms on periods.experiment_id = arms.experiment_id
    cross join (values ('acceptance'), ('precision'), ('coverage')) as outcome (outcome)
),

final as (
    select
        expected.change_id || ':' || expected.arm || ':' || expected.outcome as experiment_result,
        expected.experiment_id,
        expected.change_id,
        expected.experiment,
        expected.arm,
        expected.outcome,
        coalesce(moments.units, 0) as units,
        cast(coalesce(moments.answers, 0) as bigint) as answers,
        cast(coalesce(moments.successes, 0) as bigint) as successes,
        cast(coalesce(moments.answer_squares, 0) as bigint) as answer_squares,
        cast(coalesce(moments.success_squares, 0) as bigint) as success_squares,
        cast(coalesce(moments.products, 0) as bigint) as products,
        cast(cast(moments.successes as numeric) / moments.answers as numeric(10, 9)) as rate,
        expected.is_control,
        expected.is_latest,
        expected.began_at,
        expected.ended_at
    from expected
    left join moments
        on
            expected.change_id = moments.change_id
            and expected.arm = moments.arm
            and expected.outcome = moments.outcome
)

select * from final
