"""`python -m loopllama_cli.local`: the process behind `LocalStack`.

Speaks lines of JSON: reads what the stack is to be from standard input (arguments can be read by every user of the
machine), prints `{"ready": …}` or `{"failed": …}` on standard output, then answers each line of standard
input. Ends when standard input does, or on SIGTERM; everything that it started ends with it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any


def main() -> int:
    config = json.loads(sys.stdin.readline())  # no argument: those any user of the machine may read
    # Standard output is the handle's; whatever else prints, prints to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lock = threading.Lock()

    def warn(line: str) -> None:
        with lock:
            sys.stderr.write(line.replace("\n", " ") + "\n")

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    from loopllama_cli.local import credentials
    from loopllama_cli.local.stack import Stack
    from loopllama_cli.local.template import TemplateError

    # What is loaded now stays: looking through it for garbage again and again is a fifth of the start.
    gc.disable()
    try:
        stack = Stack(
            Path(config["project"]),
            config["parameters"],
            config["api_port"],
            config["aws_port"],
            warn,
            config["minute"],
            config["simulate"],
            config["execution_events"],
            config["concurrency"],
            config["tool_functions"],
        )
    except (TemplateError, OSError) as error:
        answer({"failed": str(error)})
        return 1
    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGTERM, lambda *_: _end(stack))
    try:
        credentials.keep(stack.aws_endpoint_url, stack.credentials)
    except OSError as error:
        warn(f"only programs that are told the credentials will find this stack, `loopllama --local` too: {error}")
    ready = {"api": stack.api_url, "aws_endpoint_url": stack.aws_endpoint_url, "outputs": stack.outputs}
    answer({"ready": {**ready, "credentials": stack.credentials.as_json()}})
    for line in sys.stdin:
        question = json.loads(line)
        if "configure" in question:
            stack.configure(*question["configure"])
            answer({"answer": None})
        else:
            answer({"answer": stack.processes(question["processes"])})
    _end(stack)
    return 0


def _end(stack: Any) -> None:
    from loopllama_cli.local import credentials

    credentials.forget(stack.aws_endpoint_url, stack.credentials)
    # Function processes first and at once: servers and threads end with this process.
    stack.functions.close()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
