{#- One end of Wilson's score interval (1927) for the share of `hits` in `total`; `sign` is - or +. It stays within
[0, 1] and is wide for few trials, where the normal approximation would claim certainty. -#}
{% macro wilson_bound(hits, total, sign) -%}
    {%- set z = var('confidence_z') -%}
    cast(
        (
            {{ hits }} + {{ z }} * {{ z }} / 2.0
            {{ sign }} {{ z }} * sqrt(
                cast({{ hits }} as numeric) * ({{ total }} - {{ hits }}) / {{ total }} + {{ z }} * {{ z }} / 4.0
            )
        ) / ({{ total }} + {{ z }} * {{ z }}) as numeric(10, 9)
    )
{%- endmacro %}
