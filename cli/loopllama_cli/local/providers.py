"""Which model providers a local stack can reach: credentials from the caller's environment, and stand-ins."""

from __future__ import annotations

import json
from collections.abc import Mapping


def credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Return provider to its secret's text, for every provider whose `<NAME>_API_KEY` or `<NAME>_BASE_URL` is set, and
    for every server that people run themselves, at its usual address on this machine.

    Any other `<NAME>_BASE_URL` makes a provider of that name, with `<NAME>_API_KEY` where its server asks for a key.
    """
    from loopllama.catalog.providers import KNOWN, variables_of
    from loopllama.providers.credentials import from_environment

    taken = {variable for name in KNOWN for variable in variables_of(name)}
    prefixes = {key.removesuffix("_BASE_URL") for key, url in environment.items() if key.endswith("_BASE_URL") and url}
    own_names = {prefix.lower() for prefix in prefixes - taken if prefix}
    secrets = {name: from_environment(name, environment) for name in sorted({*KNOWN, *own_names})}
    here = {name: {"base_url": known.base_url} for name, known in KNOWN.items() if known.local_server}
    return {
        name: json.dumps(here.get(name, {}) | (secret or {}))
        for name, secret in secrets.items()
        if secret or name in here
    }


def simulated(with_credentials: Mapping[str, str]) -> list[str]:
    """Return the providers that the simulated one stands in for.

    These are the providers that need a key and have none, and those that the function's role may call: there is no
    account."""
    from loopllama.catalog.providers import KNOWN

    return [
        name for name, known in KNOWN.items() if name not in with_credentials and (known.by_role or not known.keyless)
    ]
