"""The workflow language told a second time, in few words, and random crews to compare it with the engine.

`crews` writes random crews, `reference` says what must become of one, `lives` plays them on the deployed machinery and
compares. Nothing here imports a decision of the engine: what a step may read, when it is skipped, how a loop ends and
what a prompt says is written down anew, from docs/workflows.md.
"""
