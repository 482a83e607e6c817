with

source as (
    select * from {{ source('ledger', 'experiment_arms') }}
),

renamed as (
    -- Suggestions keep a version as text.
    select
        experiment_id || ':' || name as experiment_arm,
        experiment_id,
        name as arm,
        engine,
        cast(version as text) as model_version,
        share,
        position = 0 as is_control
    from source
)

select * from renamed
