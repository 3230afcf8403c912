"""`python -m loopllama_cli.docgen.pages [--check]`."""

import sys

from loopllama_cli.docgen.pages import main

sys.exit(main())
