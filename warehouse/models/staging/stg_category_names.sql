with

source as (
    select * from {{ source('ledger', 'category_names') }}
),

renamed as (
    select
        id as category_name_id,
        user_id,
        name as word,
        shown_as,
        valid_from,
        valid_to
    from source
)

select * from renamed
