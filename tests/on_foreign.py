"""`make test-foreign`: what `make test-aws` does, on ministack instead of AWS: an emulator that shares no code with
moto. It evaluates each role's policies, and runs the functions and the layer as `sam build` makes them.

Nothing leaves this machine but what `sam build` fetches, and nothing is left of it, ministack's processes included.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS)]

import on_aws  # noqa: E402 - found through the line before
from foreign import emulator  # noqa: E402
from support.remains import remains  # noqa: E402

from loopllama.aws import clients  # noqa: E402

STACK = "foreign"


def main(python: str) -> int:
    """Deploy, test, remove, and look for what is left. `python` is the interpreter that has ministack. Returns the exit
    code: 0 where all is well."""
    begun = time.monotonic()
    with emulator.running(python) as foreign:
        foreign.enter()
        code = on_aws.main(STACK, **foreign.by_name)
        left = list(remains(clients.client))
        if code or left:
            sys.stderr.write(f"The end of ministack's log:\n{foreign.last_words()}\n")
    if left:
        sys.stderr.write("\n".join(["Left of the stack:", *left, ""]))
    sys.stderr.write(f"make test-foreign took {time.monotonic() - begun:.0f} s\n")
    return code or bool(left)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
