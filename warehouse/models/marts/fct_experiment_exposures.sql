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

stops as (
    select
        experiment_id,
        arm,
        min(change_id) as change_id
    from changes
    where action = 'stop_arm'
    group by experiment_id, arm
),

-- In the order of the changes that were in force and not of time: servers follow a change one after the other.
in_order as (
    select
        *,
        row_number() over unit_in_order as position_in_unit,
        lag(change_id) over unit_in_order as previous_change_id,
        lag(arm) over unit_in_order as previous_arm
    from suggestions
    window unit_in_order as (partition by experiment_unit order by change_id, suggested_at, event_id)
),

crossings as (
    select
        in_order.*,
        in_order.arm <> in_order.previous_arm as is_crossing,
        changes.ramp,
        previous_changes.ramp as previous_ramp,
        arms.is_control as is_to_control,
        stops.change_id as stop_change_id,
        arms.is_control or previous_arms.is_control as is_of_control
    from in_order
    inner join arms on in_order.experiment_id = arms.experiment_id and in_order.arm = arms.arm
    inner join changes on in_order.change_id = changes.change_id
    left join arms as previous_arms
        on in_order.experiment_id = previous_arms.experiment_id and in_order.previous_arm = previous_arms.arm
    left join changes as previous_changes on in_order.previous_change_id = previous_changes.change_id
    -- Of the treatment that the unit leaves for the control, or comes to.
    left join stops
        on
            in_order.experiment_id = stops.experiment_id
            and stops.arm = case when arms.is_control then in_order.previous_arm else in_order.arm end
),

-- A ramp takes units out of the control or back into it, an arm that is stopped leaves its units to the control, and
-- nothing takes a unit from one treatment to another.
explained as (
    select
        *,
        case
            when not is_of_control then false
            when is_to_control
                then
                    ramp < previous_ramp
                    or coalesce(stop_change_id > previous_change_id and stop_change_id <= change_id, false)
            else ramp > previous_ramp and coalesce(stop_change_id > change_id, true)
        end as is_explained
    from crossings
),

final as (
    select
        experiment_unit,
        experiment_id,
        min(user_id) filter (where position_in_unit = 1) as user_id,
        experiment,
        min(arm) filter (where position_in_unit = 1) as arm,
        min(propensity) filter (where position_in_unit = 1) as propensity,
        count(*) as suggestions,
        count(distinct txn_id) as transaction_count,
        coalesce(bool_or(is_crossing), false) as has_crossed,
        coalesce(bool_or(is_crossing and not is_explained), false) as has_slipped,
        min(suggested_at) as first_exposed_at,
        max(suggested_at) as last_exposed_at
    from explained
    group by experiment_unit, experiment_id, experiment
)

select * from final
