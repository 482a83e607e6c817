with

suggestions as (
    select * from {{ ref('int_experiment_suggestions') }}
),

arms as (
    select * from {{ ref('stg_experiment_arms') }}
),

changes as (
    select * from {{ ref('stg_experiment_changes') }}
),

in_order as (
    select
        event_id,
        experiment_id,
        experiment_unit,
        arm,
        suggested_at,
        lag(arm) over unit_in_time as previous_arm,
        lag(suggested_at) over unit_in_time as previously_suggested_at
    from suggestions
    window unit_in_time as (partition by experiment_unit order by suggested_at, event_id)
),

crossings as (
    select
        in_order.*,
        coalesce(arms.is_control, false) as is_to_control
    from in_order
    left join arms on in_order.experiment_id = arms.experiment_id and in_order.arm = arms.arm
    where in_order.arm <> in_order.previous_arm
),

-- A ramp takes units out of the control or back into it, and an arm that is stopped leaves its units to the control.
-- Servers follow within a second, and a suggestion has the time at which its request began.
explained as (
    select distinct crossings.event_id
    from crossings
    inner join changes
        on
            crossings.experiment_id = changes.experiment_id
            and changes.changed_at between crossings.previously_suggested_at - interval '10 seconds'
            and crossings.suggested_at + interval '10 seconds'
    inner join arms on crossings.experiment_id = arms.experiment_id and crossings.previous_arm = arms.arm
    where
        (crossings.is_to_control and changes.action = 'stop_arm' and changes.arm = crossings.previous_arm)
        or (crossings.is_to_control <> arms.is_control and changes.action in ('start', 'ramp'))
),

crossed as (
    select
        crossings.experiment_unit,
        bool_or(explained.event_id is null) as has_slipped
    from crossings
    left join explained on crossings.event_id = explained.event_id
    group by crossings.experiment_unit
),

first_exposures as (
    select distinct on (experiment_unit) *
    from suggestions
    order by experiment_unit asc, suggested_at asc, event_id asc
),

units as (
    select
        experiment_unit,
        count(*) as suggestions,
        max(suggested_at) as last_exposed_at
    from suggestions
    group by experiment_unit
),

final as (
    select
        units.experiment_unit,
        first_exposures.experiment_id,
        first_exposures.user_id,
        first_exposures.experiment,
        first_exposures.arm,
        first_exposures.merchant,
        first_exposures.propensity,
        units.suggestions,
        crossed.experiment_unit is not null as has_crossed,
        coalesce(crossed.has_slipped, false) as has_slipped,
        first_exposures.suggested_at as first_exposed_at,
        units.last_exposed_at
    from units
    inner join first_exposures on units.experiment_unit = first_exposures.experiment_unit
    left join crossed on units.experiment_unit = crossed.experiment_unit
)

select * from final
