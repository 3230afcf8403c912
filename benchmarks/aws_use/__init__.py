"""What runs ask of AWS and what AWS asks for it: the parts of `bench_cost` and `scale`.

`meter` counts what DynamoDB would bill, `metered_stack` puts it into a local stack; `figures` and `simulation` measure
with them. `prices` and `quotas` are AWS's, `cost` is the arithmetic.
"""
