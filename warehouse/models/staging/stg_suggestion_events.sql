with

source as (
    select * from {{ source('ledger', 'suggestion_events') }}
),

renamed as (
    select
        id as event_id,
        served_event_id,
        txn_id,
        user_id,
        mode as requested_mode,
        source as suggestion_source,
        model_version,
        -- A candidate is an object with a label; a bare string is one too.
        case jsonb_typeof(candidates -> 0)
            when 'object' then candidates -> 0 ->> 'label'
            when 'string' then candidates ->> 0
        end as top_label,
        candidates,
        experiment,
        arm,
        inputs #>> '{exposure,unit}' as exposure_unit,
        cast(inputs #>> '{exposure,change}' as bigint) as exposure_change_id,
        inputs #> '{exposure,versions}' as exposure_versions,
        case jsonb_typeof(candidates -> 0 -> 'confidence')
            when 'number' then cast(candidates -> 0 ->> 'confidence' as double precision)
        end as top_confidence,
        propensity,
        source = 'rule' and inputs -> 'rule' is not null as is_by_own_rule,
        created_at as suggested_at
    from source
)

select * from renamed
