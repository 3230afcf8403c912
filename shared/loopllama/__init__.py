"""The layer of LoopLlama: everything that its Lambda functions run."""

__version__ = "0.1.0"

CONTRACT = 1
"""Version of the payloads between the state machine and the functions. A function accepts this one and the one
before it, because an execution keeps the state machine that it started with."""
