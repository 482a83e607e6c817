with

comparisons as (
    select * from {{ ref('fct_shadow_comparisons') }}
),

-- A transaction is asked about as often as somebody looks, and has one truth: it counts once, where it was first asked.
-- Otherwise what was asked about most would decide.
first_judged as (
    select distinct on (txn_id, challenger_version) comparison
    from comparisons
    where truth is not null
    order by txn_id asc, challenger_version asc, served_event_id asc
),

judged as (
    select
        comparisons.*,
        cast(comparisons.suggested_at at time zone 'UTC' as date) as suggested_on,
        first_judged.comparison is not null as is_judged,
        first_judged.comparison is not null and comparisons.has_independent_truth as is_judged_independently,
        comparisons.challenger_is_correct - comparisons.champion_is_correct as difference
    from comparisons
    left join first_judged on comparisons.comparison = first_judged.comparison
),

counted as (
    select
        category_set,
        served_source,
        served_version,
        challenger_version,
        suggested_on,
        count(*) as comparisons,
        count(*) filter (where agrees) as agreements,
        count(*) filter (where champion_is_covered) as champion_covered,
        count(*) filter (where challenger_is_covered) as challenger_covered,
        count(*) filter (where is_judged) as truths,
        count(*) filter (where is_judged and difference = 1) as wins,
        count(*) filter (where is_judged and difference = -1) as losses,
        count(*) filter (where is_judged_independently) as independent_truths,
        count(*) filter (where is_judged_independently and difference = 1) as independent_wins,
        count(*) filter (where is_judged_independently and difference = -1) as independent_losses
    from judged
    group by category_set, served_source, served_version, challenger_version, suggested_on
),

final as (
    select
        concat_ws(':', category_set, served_source, served_version, challenger_version, suggested_on) as agreement_key,
        category_set,
        served_source,
        served_version,
        challenger_version,
        comparisons,
        agreements,
        champion_covered,
        challenger_covered,
        truths,
        wins,
        losses,
        independent_truths,
        independent_wins,
        independent_losses,
        cast(cast(agreements as numeric) / comparisons as numeric(10, 9)) as agreement,
        cast(cast(champion_covered as numeric) / comparisons as numeric(10, 9)) as champion_coverage,
        cast(cast(challenger_covered as numeric) / comparisons as numeric(10, 9)) as challenger_coverage,
        cast(cast(wins - losses as numeric) / nullif(truths, 0) as numeric(10, 9)) as paired_difference,
        cast(
            cast(independent_wins - independent_losses as numeric) / nullif(independent_truths, 0) as numeric(10, 9)
        ) as independent_difference,
        suggested_on
    from counted
)

select * from final
