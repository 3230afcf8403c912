"""The start of the program: the script `loopllama`, and `python -m loopllama_cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the program. Ctrl-C ends it with the exit code 130, while its modules are still being loaded too."""
    try:
        from loopllama_cli.main import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
