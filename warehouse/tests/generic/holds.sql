{#- Every row makes a condition true; null does not. -#}
{% test holds(model, condition, column_name=none) %}
    select *
    from {{ model }}
    where ({{ condition }}) is not true
{% endtest %}
