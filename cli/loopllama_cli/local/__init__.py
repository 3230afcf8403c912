"""The local stack: the project's template.yaml, run on this machine without Docker and without an AWS account.

`LocalStack` starts it as a process of its own; nothing here imports moto into the caller. `serve` is `loopllama local`.
"""

from loopllama_cli.local.handle import LocalStack, LocalStackError
from loopllama_cli.local.serve import exports, serve

__all__ = ["LocalStack", "LocalStackError", "exports", "serve"]
