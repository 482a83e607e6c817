with

source as (
    select * from {{ source('ledger', 'experiment_changes') }}
),

renamed as (
    select
        id as change_id,
        experiment_id,
        action,
        arm,
        actor,
        reason,
        ramp,
        created_at as changed_at
    from source
)

select * from renamed
