"""What the local stack changes in moto's S3: buckets of the template that tell EventBridge what happens in them."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

from moto.s3 import notifications
from moto.s3.models import FakeBucket

from loopllama_cli.local.events import Events
from loopllama_cli.local.moto_patches.patching import replace


def install(events: Events) -> None:
    def create_with_notifications(cls: Any, name: str, resource: Any, *args: Any, **kwargs: Any) -> Any:
        # moto's CloudFormation skips a bucket's NotificationConfiguration.
        bucket = create.__func__(cls, name, resource, *args, **kwargs)
        config = resource.get("Properties", {}).get("NotificationConfiguration", {})
        if config.get("EventBridgeConfiguration", {}).get("EventBridgeEnabled"):
            bucket.set_notification_configuration({"EventBridgeConfiguration": {}})
        return bucket

    bucket_class: Any = FakeBucket
    create = replace(bucket_class, "create_from_cloudformation_json", classmethod(create_with_notifications))

    sequence = itertools.count(1)

    def send(account_id: str, bucket: Any, event_name: str, key: Any) -> None:
        # moto's event goes to every bus, and its sequencer is always the same one.
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
        detail = {
            "version": "0",
            "bucket": {"name": bucket.name},
            "object": {
                "key": key.name,
                "size": key.size,
                "etag": key.etag.strip('"'),
                "sequencer": f"{next(sequence):018X}",
                **({"version-id": key.version_id} if bucket.is_versioned else {}),
            },
            "request-id": uuid.uuid4().hex[:16].upper(),
            "requester": account_id,
            "source-ip-address": "127.0.0.1",
            "reason": event_name.partition(":")[2],
        }
        events.publish("aws.s3", notifications._detail_type(event_name), detail, [bucket.arn])

    replace(notifications, "_send_event_bridge_message", send)
