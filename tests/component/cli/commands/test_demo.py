"""The demonstration's own judgement."""

from support.command_line import invoke

from loopllama_cli.commands import demo

# The demonstration's own judgement


def ended(**changes):
    return {"id": "r", "status": "completed", "workflow_version": 1} | changes


def test_the_demo_knows_both_models_before_it_starts_anything():
    assert "no model 'smalll'" in invoke("demo", "--small", "smalll", code=3).stderr
    assert "no model 'nope'" in invoke("demo", "--model", "nope", code=3).stderr


def test_the_demo_passes_only_if_nothing_changed_and_all_completed():
    assert demo.check(ended(), ended(), {"f": 1}, {"f": 1}) == []
    assert demo.check(ended(), ended(status="failed"), 1, 1)
    assert demo.check(ended(), ended(workflow_version=2), 1, 1)
    assert demo.check(ended(), ended(), {"f": 1}, {"f": 2})
