"""Which model providers a local stack can reach: credentials from the caller's environment, and stand-ins."""

from __future__ import annotations

import json
from collections.abc import Mapping


def credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Return provider to its secret's text, for every provider whose `<NAME>_API_KEY` or `<NAME>_BASE_URL` is set.

    Beside the known providers that is any pair `<NAME>_API_KEY` and `<NAME>_BASE_URL`, for a server of one's own.
    """
    from loopllama.catalog.providers import KNOWN, variables_of
    from loopllama.providers.credentials import from_environment

    taken = {variable for name in KNOWN for variable in variables_of(name)}
    prefixes = {key.removesuffix("_API_KEY") for key in environment if key.endswith("_API_KEY")}
    own_names = {prefix.lower() for prefix in prefixes - taken if prefix and environment.get(f"{prefix}_BASE_URL")}
    secrets = {name: from_environment(name, environment) for name in sorted({*KNOWN, *own_names})}
    return {name: json.dumps(secret) for name, secret in secrets.items() if secret}


def simulated(with_credentials: Mapping[str, str]) -> list[str]:
    """Return the providers that the simulated one stands in for.

    These are the providers that need a key and have none, and those that the function's role may call: there is no
    account."""
    from loopllama.catalog.providers import KNOWN

    return [
        name for name, known in KNOWN.items() if name not in with_credentials and (known.by_role or not known.keyless)
    ]
