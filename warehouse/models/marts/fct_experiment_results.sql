with

transactions as (
    select * from {{ ref('int_experiment_transactions') }}
),

experiments as (
    select * from {{ ref('stg_experiments') }}
),

arms as (
    select * from {{ ref('stg_experiment_arms') }}
),

-- Across a change of the arms' shares, or of the model that answers in one, a drift would look like a difference of the
-- arms, so each begins anew.
periods as (
    select
        experiment_id,
        change_id,
        versions,
        min(first_suggested_at) as began_at,
        max(last_suggested_at) as ended_at
    from transactions
    group by experiment_id, change_id, versions
),

periods_in_order as (
    select
        periods.*,
        row_number() over latest_first = 1 as is_latest
    from periods
    window latest_first as (partition by experiment_id order by change_id desc, ended_at desc, versions asc)
),

outcomes as (
    select
        transactions.change_id,
        transactions.versions,
        transactions.arm,
        transactions.experiment_unit,
        outcome.outcome,
        outcome.success
    from transactions
    cross join
        lateral (
            values
            ('acceptance', transactions.is_accepted),
            ('precision', transactions.is_correct),
            ('coverage', transactions.is_covered),
            ('fallbacks', transactions.is_fallback)
        ) as outcome (outcome, success)
    where outcome.success is not null
),

-- Units and not transactions are what is independent, so what a variance follows from is summed up by unit first.
units as (
    select
        change_id,
        versions,
        arm,
        outcome,
        count(*) as answers,
        cast(sum(success) as bigint) as successes
    from outcomes
    group by change_id, versions, arm, outcome, experiment_unit
),

moments as (
    select
        change_id,
        versions,
        arm,
        outcome,
        count(*) as units,
        sum(answers) as answers,
        sum(successes) as successes,
        sum(answers * answers) as answer_squares,
        sum(successes * successes) as success_squares,
        sum(answers * successes) as products
    from units
    group by change_id, versions, arm, outcome
),

-- An arm that nobody answered yet is there, with nothing.
expected as (
    select
        periods_in_order.change_id,
        experiments.experiment_id,
        experiments.experiment,
        arms.arm,
        periods_in_order.versions,
        outcome.outcome,
        arms.is_control,
        periods_in_order.is_latest,
        periods_in_order.began_at,
        periods_in_order.ended_at
    from periods_in_order
    inner join experiments on periods_in_order.experiment_id = experiments.experiment_id
    inner join arms on periods_in_order.experiment_id = arms.experiment_id
    cross join (values ('acceptance'), ('precision'), ('coverage'), ('fallbacks')) as outcome (outcome)
),

final as (
    select
        concat_ws(':', expected.change_id, expected.versions, expected.arm, expected.outcome) as experiment_result,
        expected.experiment_id,
        expected.change_id,
        expected.experiment,
        expected.arm,
        expected.versions ->> expected.arm as model_version,
        expected.outcome,
        expected.versions,
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
            and expected.versions = moments.versions
            and expected.arm = moments.arm
            and expected.outcome = moments.outcome
)

select * from final
