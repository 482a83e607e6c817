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

-- In the order in which there was anything to judge of an arm: what comes later takes no alpha from what came before.
asked_arms as (
    select
        transactions.experiment_id,
        transactions.change_id,
        transactions.versions,
        transactions.arm,
        rank() over arm_in_order as period_number
    from transactions
    group by transactions.experiment_id, transactions.change_id, transactions.versions, transactions.arm
    window arm_in_order as (
        partition by transactions.experiment_id, transactions.arm order by min(transactions.first_suggested_at)
    )
),

arms_of_periods as (
    select
        periods.*,
        arms.arm,
        arms.is_control,
        asked_arms.period_number,
        count(*) filter (where not arms.is_control) over whole_period as treatments,
        -- Every treatment is compared with the control, and so the control with any of them.
        asked_arms.arm is not null
        and case
            when arms.is_control then count(asked_arms.arm) filter (where not arms.is_control) over whole_period > 0
            else count(asked_arms.arm) filter (where arms.is_control) over whole_period > 0
        end as is_beside_control
    from periods
    inner join arms on periods.experiment_id = arms.experiment_id
    left join asked_arms
        on
            periods.change_id = asked_arms.change_id
            and periods.versions = asked_arms.versions
            and arms.arm = asked_arms.arm
    window whole_period as (partition by periods.experiment_id, periods.change_id, periods.versions)
),

-- The last step of a canary leaves the control without units, so the last period is not always the one that compares.
periods_in_order as (
    select
        arms_of_periods.*,
        row_number() over compared_first = 1 as is_latest
    from arms_of_periods
    window compared_first as (
        partition by experiment_id, arm
        order by
            is_beside_control desc, period_number is null asc, change_id desc, ended_at desc, versions asc
    )
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
            ('fallbacks', transactions.is_fallback),
            ('answered', case when transactions.is_answered then transactions.is_accepted end)
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
        periods_in_order.arm,
        periods_in_order.versions,
        outcome.outcome,
        periods_in_order.period_number,
        periods_in_order.treatments,
        periods_in_order.is_control,
        periods_in_order.is_beside_control,
        periods_in_order.is_latest,
        periods_in_order.began_at,
        periods_in_order.ended_at
    from periods_in_order
    inner join experiments on periods_in_order.experiment_id = experiments.experiment_id
    cross join
        (values ('acceptance'), ('precision'), ('coverage'), ('fallbacks'), ('answered')) as outcome (outcome)
),

final as (
    select
        concat_ws(':', expected.change_id, expected.versions, expected.arm, expected.outcome) as experiment_result,
        concat_ws(':', expected.change_id, expected.versions) as experiment_period,
        expected.experiment_id,
        expected.change_id,
        expected.experiment,
        expected.arm,
        expected.versions ->> expected.arm as model_version,
        expected.outcome,
        expected.versions,
        expected.period_number,
        expected.treatments,
        coalesce(moments.units, 0) as units,
        cast(coalesce(moments.answers, 0) as bigint) as answers,
        cast(coalesce(moments.successes, 0) as bigint) as successes,
        cast(coalesce(moments.answer_squares, 0) as bigint) as answer_squares,
        cast(coalesce(moments.success_squares, 0) as bigint) as success_squares,
        cast(coalesce(moments.products, 0) as bigint) as products,
        cast(cast(moments.successes as numeric) / moments.answers as numeric(10, 9)) as rate,
        expected.is_control,
        expected.is_beside_control,
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
