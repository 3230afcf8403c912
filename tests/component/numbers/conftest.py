"""The deployment whose doors numbers come to."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from support.deployment import Deployment, deployment

# Doors of runs


@pytest.fixture(scope="module")
def live() -> Iterator[Deployment]:
    with pytest.MonkeyPatch.context() as patch, deployment(patch) as made:
        made.push([{"name": "a", "prompt": "{{ input }}"}, {"name": "b", "when": "input.n > `5`"}], name="w")
        boto3.client("s3").create_bucket(Bucket="uploads")
        yield made
