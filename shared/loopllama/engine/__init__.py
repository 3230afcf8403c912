"""The way of a run: one module a state of the state machine, and one a function beside it."""
