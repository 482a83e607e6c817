with

source as (
    select * from {{ source('ledger', 'experiments') }}
),

renamed as (
    -- Left out are the salt, the steps of the ramp and the guardrails: they decide and measure nothing.
    select
        id as experiment_id,
        user_id as category_set,
        name as experiment,
        unit,
        created_by,
        created_at
    from source
)

select * from renamed
