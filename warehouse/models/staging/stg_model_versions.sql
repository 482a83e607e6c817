with

source as (
    select * from {{ source('ledger', 'model_versions') }}
),

renamed as (
    -- Suggestions keep a version as text.
    select
        cast(version as text) as model_version,
        user_id as category_set,
        recipe,
        created_at
    from source
)

select * from renamed
