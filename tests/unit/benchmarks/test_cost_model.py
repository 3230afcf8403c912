"""The arithmetic of benchmarks/bench_cost.py, by hand."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import bench_cost
from aws_use.cost import Use, added, billed_seconds, lambda_usd, of_day, of_use, per_thousand, plain_step, proxy_day
from aws_use.figures import MODEL_MS, SHORT, alarm_metrics, memory_of_template, template
from aws_use.prices import DAYS_A_MONTH, USD

NOTHING = dict.fromkeys(("transitions", "writes", "reads", "stored_bytes", "log_bytes", "events", "api_requests"), 0.0)


def use(**amounts: float) -> Use:
    return Use({**NOTHING, **amounts}, {"RunStep": 1.0}, {"RunStep": 10.0}, {"RunStep": 3000.0})


def test_an_invocation_lasts_as_long_as_it_waits_and_its_own_work_takes_on_its_share_of_a_processor() -> None:
    assert billed_seconds(10, 3000, 1769) == Decimal("3.011")
    assert billed_seconds(10, 3000, 3538) == Decimal("3.011")
    assert billed_seconds(14.15, 3000, 256) == Decimal("3.099")
    # 3 s at 1 GB: 3 GB-seconds and a request.
    assert lambda_usd(2, Decimal(3), 1024) == 2 * (3 * Decimal("0.0000133334") + Decimal("0.0000002"))


def test_uses_add_up_and_fall_into_a_step_s_share_and_the_rest_of_a_run() -> None:
    short, long = use(transitions=16, writes=60), use(transitions=26, writes=105)
    short, long = short.plus(use(), 4), long.plus(use(), 9)  # 5 and 10 invocations
    step = long.plus(short, -1).over(5)
    run = short.plus(step, -5)
    assert (step.amounts["transitions"], step.amounts["writes"], step.invocations["RunStep"]) == (2, 9, 1)
    assert (run.amounts["transitions"], run.amounts["writes"], run.invocations["RunStep"]) == (6, 15, 0)


def test_what_is_used_costs_what_the_price_list_says() -> None:
    usd = of_use(
        use(transitions=2, writes=8, reads=4, stored_bytes=10**9, log_bytes=10**9, events=1, api_requests=1),
        {"RunStep": 512},
    )
    assert usd["Step Functions"] == Decimal("0.00005")
    assert usd["DynamoDB, writes"] == Decimal("0.000005")
    assert usd["DynamoDB, reads"] == Decimal("0.0000005")
    assert usd["DynamoDB, storage"] == Decimal("0.45")
    assert usd["CloudWatch Logs"] == Decimal("0.53")
    assert usd["Lambda, steps"] == lambda_usd(1, billed_seconds(10, 3000, 512), 512)
    assert usd["Lambda, the rest"] == 0
    thousand = per_thousand(added((usd, 5), (usd, 1)), 5)
    assert thousand["Step Functions"] == Decimal("0.06")
    month = {name: value * Decimal("30.4") for name, value in of_day(10, 2).items()}
    names = ("CloudWatch metrics", "CloudWatch dashboard", "Secrets Manager")
    assert [round(month[name], 6) for name in names] == [3, 3, Decimal("0.8")]


def test_the_others_are_priced_from_the_same_list() -> None:
    assert plain_step(3000, 1024, 0) == USD["states_transition"] + lambda_usd(1, Decimal("3.001"), 1024)
    # Two tasks, their addresses and the load balancer's, the load balancer and its smallest unit.
    hour = 2 * (Decimal("0.008095") + Decimal("0.00178") + Decimal("0.005")) + Decimal("0.0305") + Decimal("0.01")
    assert proxy_day() == 24 * hour


def test_the_figures_in_the_operations_page_are_those_of_the_last_measurement() -> None:
    figures = json.loads(bench_cost.RESULT.read_text())["figures"]
    memory, day = memory_of_template(), bench_cost.STEPS_A_DAY
    sums = [
        sum(bench_cost.price(figures, memory, SHORT, day).values()),
        sum(bench_cost.price_together(figures, memory, day).values()),
        sum(bench_cost.price_together(figures, 256, day).values()),
        1000 * plain_step(MODEL_MS, memory, bench_cost.PLAIN_LOG_BYTES),
    ]
    page = (bench_cost.RESULT.parents[2] / "docs" / "operations.md").read_text()
    told = [Decimal(number) for number in re.findall(r"0\.[0-9]{3}", page.partition("## Cost")[2])]
    # A measurement of processor time moves the last digit.
    assert all(any(abs(usd - one) < Decimal("0.0015") for one in told) for usd in sums), (sums, told)


def test_what_the_alarms_cost_is_said_the_same_everywhere() -> None:
    """They are counted in the template, not measured, so a new one is told at once."""
    assert json.loads(bench_cost.RESULT.read_text())["figures"]["alarm_metrics"] == alarm_metrics()
    usd = round(alarm_metrics() * USD["alarm_metric_month"])
    assert template()["Parameters"]["Alarms"]["Description"].endswith(f"; about {usd} USD a month")
    page = (bench_cost.RESULT.parents[2] / "docs" / "operations.md").read_text()
    assert f"{usd} USD more with `Alarms`" in page


def test_what_a_month_costs_is_what_the_operations_page_says() -> None:
    figures = json.loads(bench_cost.RESULT.read_text())["figures"]
    page = " ".join((bench_cost.RESULT.parents[2] / "docs" / "operations.md").read_text().split())

    def month(runs: int) -> int:
        usd = bench_cost.price(figures, memory_of_template(), SHORT, runs * SHORT)
        return round(sum(usd.values(), Decimal(0)) * runs * SHORT / 1000 * DAYS_A_MONTH)

    assert f"{month(1)} USD a month with one crew of five" in page
    assert f"a hundred runs of five steps a day cost {month(100)} USD a month, ten thousand {month(10_000)}." in page
    assert f"costs {round(proxy_day() * DAYS_A_MONTH)} USD a month at any load" in page
