"""Which model a step uses, and which layer said so."""
