"""The layer of LoopLlama: everything that its Lambda functions run."""

import gc
import os

__version__ = "0.1.0"

CONTRACT = 2
"""Version of the payloads between the state machine and the functions. A function accepts this one and the one
before it, because an execution keeps the state machine that it started with: 1 is the one in which every chain of
steps is an iteration of a Map."""

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # What a function loads stays, and looking for garbage in it took a sixth of its start-up
    # (benchmarks/bench_startup.py). What a step leaves behind is freed without a collection.
    gc.set_threshold(100_000)
