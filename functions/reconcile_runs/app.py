"""ReconcileRuns: closes runs whose execution ended, at Step Functions' news of it and on a schedule, which sums usage
too."""

from typing import Any

from loopllama.engine.reconcile import execution_ended, reconcile_due
from loopllama.queries.usage_days import sum_due
from loopllama.settings import settings
from loopllama.telemetry.handler import lambda_handler


@lambda_handler
def handler(event: Any, context: Any) -> Any:
    if event.get("detail-type") == "Step Functions Execution Status Change":
        return execution_ended(settings(), event["detail"])
    return {**reconcile_due(settings()), **sum_due(settings(), context.get_remaining_time_in_millis)}
