-- The database's own as-of read, called with the moment of this run. It reads this:
-- depends_on: {{ ref('stg_transactions') }}
with

known as (
    select * from public.transactions_as_of({{ as_of() }}, {{ var('strict') }})
)

select * from known
