"""`python -m loopllama_cli.reference [--check]`."""

import sys

from . import main

sys.exit(main())
