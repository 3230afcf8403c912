"""`loopllama runs`: what ran, what it cost, and what it waits for."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer
from rich.text import Text

from loopllama.errors import InvalidRequest, LoopLlamaError
from loopllama.events.log import EventLog
from loopllama.queries.run_index import STATUSES, Filter, reached
from loopllama.settings import Settings
from loopllama_cli import completion
from loopllama_cli.commands.common import (
    Csv,
    Json,
    Key,
    Limit,
    OldRun,
    RunId,
    Timeout,
    Wait,
    ask,
    connect,
    either,
    is_a_terminal,
    pairs,
    read_input,
    read_moment,
    read_pairs,
    read_text,
)
from loopllama_cli.commands.models.show import check_models
from loopllama_cli.commands.run import finish, meant_run, print_output, read
from loopllama_cli.console import event_stream, output
from loopllama_cli.console import figures as costs
from loopllama_cli.console.questions import print_question, print_questions
from loopllama_cli.console.run_facts import cost_basis, run_cost, run_latency, simulated
from loopllama_cli.console.trace import print_trace
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.queries.types import QuestionView, RunView


class Redriven(TypedDict):
    """What became of a run that was to be redriven; `reason` says why it was not, `None` for one that goes on."""

    id: str
    redriven: bool
    reason: str | None


_CSV = (
    *("id", "workflow_id", "workflow_version", "status", "created_at", "started_at", "finished_at", "tokens_in"),
    *("tokens_cached", "tokens_out", "cost_usd", "cost_basis", "simulated", "latency_ms", "waited_ms"),
    "unsatisfied_loops",
)
MAX_PAGES = 20
"""Pages that a list reads where few runs are what it is asked for: 20,000 runs, or 4,000 inputs."""

app = typer.Typer(no_args_is_help=True, help="Runs: list, show, watch, wait, respond, cancel, redrive, replay.")


@app.command("list")
def list_(
    ctx: typer.Context,
    workflow: Annotated[
        str | None,
        typer.Argument(metavar="WORKFLOW", help="Only this workflow's runs.", autocompletion=completion.workflows),
    ] = None,
    named: Annotated[str | None, typer.Option("--workflow", metavar="WORKFLOW", help="The same.")] = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help=f"Only those in this state: {', '.join(STATUSES)}.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only those accepted from then on: 2h, 3d, or ISO 8601 (UTC)."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only those accepted before then.")] = None,
    tag: Annotated[
        str | None,
        typer.Option(metavar="NAME[=VALUE]", help="Only those with this tag, of any value or this one."),
    ] = None,
    beginning: Annotated[
        str | None, typer.Option("--q", metavar="TEXT", help="Only those whose input begins with this text.")
    ] = None,
    limit: Limit = 20,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List runs, the newest first."""
    from loopllama.workflows.store import DefinitionStore

    either(as_json, as_csv)
    if workflow and named and workflow != named:
        raise InvalidRequest(f"two workflows are named, {workflow!r} and {named!r}: name one, or none for all")
    workflow = workflow or named
    which = Filter.of(workflow, status, read_moment(since, "--since"), read_moment(until, "--until"), tag, beginning)
    settings = connect(ctx).settings
    runs, cursor = _find(settings, which, limit)
    if workflow is not None and not runs:
        DefinitionStore(settings).get(workflow)  # says so where it does not exist
    if as_json:
        output.print_json(runs)
        return
    if as_csv:
        output.print_csv(_CSV, runs)
        _tell_more(runs, cursor, limit)
        return
    if not runs:
        output.message("There are no such runs." if which != Filter() else "There are no runs.", "dim")
        _tell_more(runs, cursor, limit)
        return
    console = output.out()
    right = ("Tokens", "Latency", "Cost")
    table = output.table("Run", "Workflow", "Status", "Created", *right, right=right)
    for column in table.columns:
        column.no_wrap = column.header != "Workflow"
    decimals = output.cost_decimals(run.get("cost_usd") for run in runs)
    marked: list[dict[str, Any]] = []
    for run in runs:
        used = (run.get("tokens_in") or 0) + (run.get("tokens_out") or 0)
        known = used or run.get("finished_at") is not None
        sums = {**run, "cost_usd": run_cost(run), "cost_basis": cost_basis(run), "simulated": simulated(run)}
        marked += [sums] if known else []
        table.add_row(
            output.plain(run["id"]),
            output.plain(run["workflow_id"]),
            Text.assemble(output.status(run["status"]), (" !" if run["unsatisfied_loops"] else "", "yellow")),
            output.local_time(run.get("created_at")),
            output.tokens(used),
            output.duration(run_latency(run)),
            costs.cost(sums, decimals, starred=True) if known else "-",
        )
    output.print_table(table, console)
    if meaning := costs.legend(marked):
        console.print(Text(meaning, "yellow"))
    if any(run["unsatisfied_loops"] for run in runs):
        console.print(Text("! a loop of it was not satisfied", "yellow"))
    _tell_more(runs, cursor, limit)


def _find(settings: Settings, which: Filter, limit: int) -> tuple[list[RunView], str | None]:
    """Return the runs of as many pages as it takes, but no more than `MAX_PAGES`, and where to go on."""
    from loopllama.queries.runs import RunReader

    reader = RunReader(settings)
    runs: list[RunView] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page, cursor = reader.list(limit=limit - len(runs), cursor=cursor, which=which)
        runs += page
        if cursor is None or len(runs) >= limit:
            break
    return runs, cursor


def _tell_more(runs: Sequence[RunView], cursor: str | None, limit: int) -> None:
    if cursor and len(runs) >= limit:
        output.message("There are more: raise --limit.", "dim")
    elif cursor:
        output.message(f"Only runs back to {reached(cursor)} were looked at: add --until {reached(cursor)}.", "dim")


@app.command("show")
def show_(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Show a run: its trace, what it asks people, and its output."""
    view = read(connect(ctx).settings, run)
    if as_json:
        output.print_json(view)
        return
    print_trace(view)
    print_questions(view)
    print_output(view)


@app.command("watch")
def watch(
    ctx: typer.Context,
    run: RunId,
    after: Annotated[
        int, typer.Option(min=0, max=99_999_999, metavar="ID", help="Only what follows the event of this id.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Show a run's events as they come, until it ends.

    Exit code 1 where the run fails or is cancelled.
    """
    console, settings = output.out(), connect(ctx).settings
    run = meant_run(settings, run)
    try:
        for event in event_stream.events(settings, run, after):
            event_stream.print_event(event, console, as_json)
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(130) from interrupt
    if EventLog(settings).status(run) in ("failed", "cancelled"):
        raise typer.Exit(1)


@app.command("wait")
def wait_(ctx: typer.Context, run: RunId, timeout: Timeout = None, as_json: Json = False) -> None:
    """Wait until a run ends or asks a person, then print its trace and output.

    Exit code 0 where it completed, 1 where it failed or was cancelled, 6 where it waits for a person, 7 where --timeout
    ended the waiting.
    """
    settings = connect(ctx).settings
    finish(settings, meant_run(settings, run), wait=True, timeout=timeout, as_json=as_json)


@app.command("respond")
def respond(
    ctx: typer.Context,
    run: OldRun,
    approve: Annotated[
        bool | None, typer.Option("--approve/--reject", help="The decision, where the run asks for an approval.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", metavar="TEXT|@FILE|-", help="The answer to a question, or a note with a decision."),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(
            "--question",
            metavar="ID",
            help="The id of what is asked, as `runs show` names it. It may be left out where the run asks one thing.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Answer what a run waits for: approve or reject, or give the text that it asks for.

    What is answered is shown whole, and nothing else is answered. Without a decision and a text a terminal asks for
    them.
    """
    from loopllama.engine import human_input
    from loopllama.runs.store import RunStore

    given = read_text(text) if text is not None else None
    no_answer = f"no answer given: {next_command('runs respond', run)} --approve, --reject or --text TEXT"
    if approve is None and given is None and not is_a_terminal():
        raise InvalidRequest(no_answer)
    settings = connect(ctx).settings
    shown = _only_question(settings, run, question)
    if shown is not None:
        print_question(shown, output.err())
        question = shown["id"]
        if approve is None and given is None and shown["kind"] == "approval":
            approve = typer.confirm("Approve?", default=None, err=True)
        elif approve is None and given is None:
            given = typer.prompt("Answer", err=True)
    elif approve is None and given is None:
        raise InvalidRequest(no_answer)
    answer = {"input": given} if approve is None else {"approved": approve, **({"note": given} if given else {})}
    asked = human_input.respond(RunStore(settings), run, answer, getpass.getuser(), question)
    if as_json:
        output.print_json(asked)
        return
    output.message("Answered." if approve is None else "Approved." if approve else "Rejected.")


def _only_question(settings: Settings, run_id: str, question: str | None) -> QuestionView | None:
    """Return the question of that id, or the only one that the run asks; `None` where there is none such. Raises
    `RunNotFound`: whose question is answered is said by its id, and not by `last`."""
    from loopllama.queries.runs import RunReader

    asked = RunReader(settings).get(run_id)["questions"]
    meant = [one for one in asked if question in (None, one["id"])]
    return meant[0] if len(meant) == 1 else None


@app.command("cancel")
def cancel(ctx: typer.Context, run: OldRun, as_json: Json = False) -> None:
    """End a run that goes on or waits. What is done stays recorded and paid; a model call that is out is billed too."""
    from loopllama.engine.cancel import cancel_run

    settings = connect(ctx).settings
    cancel_run(settings, run, getpass.getuser())
    if as_json:
        output.print_json(read(settings, run))
    else:
        output.out().print(output.plain(f"{run}: cancelled"))


@app.command("redrive")
def redrive(
    ctx: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="The run's id.", autocompletion=completion.runs)
    ] = None,
    failed_since: Annotated[
        str | None, typer.Option(metavar="TIME", help="All runs that failed from then on instead: 2h, 3d, or ISO 8601.")
    ] = None,
    workflow: Annotated[str | None, typer.Option(metavar="WORKFLOW", help="Of those only this workflow's.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before several runs are redriven.")] = False,
    as_json: Json = False,
) -> None:
    """Let failed runs go on where they failed, once the cause is fixed. What is done is not done or paid again.

    Step Functions redrives for 14 days; after that, and for a cancelled run, use `runs replay`. Exit code 1 where a run
    could not be redriven.
    """
    from loopllama.queries.runs import RunReader

    if (run is None) == (failed_since is None) or (workflow and run):
        commands = f"{next_command('runs redrive RUN')}, or {next_command('runs redrive --failed-since 2h')}"
        raise InvalidRequest(f"name either a run or a time: {commands}")
    since = read_moment(failed_since, "--failed-since")
    settings = connect(ctx).settings
    if since is None:
        ids = [str(run)]
    else:
        ids = [view["id"] for view in RunReader(settings).failed(since, workflow)]
        if ids and not yes:
            ask(f"Redrive {len(ids)} runs that failed since {since}?", "whether to redrive them")
    told = [_redrive(settings, run_id) for run_id in ids]
    if as_json:
        output.print_json(told)
    for one in () if as_json else told:
        output.out().print(output.plain(f"{one['id']}: {one['reason'] or 'goes on'}"))
    if not told and not as_json:
        output.message(f"No run has failed since {since}.", "dim")
    if any(one["reason"] for one in told):
        raise typer.Exit(1)


def _redrive(settings: Settings, run_id: str) -> Redriven:
    """Redrive one run; what became of it. One that goes on already is as good as redriven."""
    from loopllama.aws.errors import trouble
    from loopllama.engine.redrive import redrive_run

    try:
        redriven = redrive_run(settings, run_id)
    except Exception as error:
        known = error if isinstance(error, LoopLlamaError) else trouble(error)
        if known is None:
            raise
        return {"id": run_id, "redriven": False, "reason": str(known)}
    return {"id": run_id, "redriven": redriven, "reason": None}


@app.command("replay")
def replay(
    ctx: typer.Context,
    run: RunId,
    from_step: Annotated[
        str,
        typer.Option(
            metavar="STEP",
            help="The first step that is redone; those before it are kept as they ended.",
            autocompletion=completion.steps,
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP=MODEL",
            help="Another model of a step; `*` for all. Repeatable.",
            autocompletion=completion.step_models,
        ),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="TEXT|@FILE|-", help="Another input for the steps that are redone."),
    ] = None,
    system_prompt: Annotated[
        list[str] | None,
        typer.Option(metavar="STEP=TEXT|@FILE", help="Another system prompt of a step that is redone. Repeatable."),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Start a run that keeps the steps of another before one, which cost nothing, and does the rest again.

    A step before it that needs a redone one is redone too, and a loop is redone as a whole. The version of the workflow
    is the other run's. Exit codes are those of `run`.
    """
    from loopllama.engine.replay import replay_run

    models = pairs(model, "--model", "STEP=MODEL, such as --model writer=small")
    prompts = read_pairs(system_prompt, "--system-prompt", "STEP=TEXT, such as --system-prompt writer=@prompt.txt")
    value = None if input_ is None else read_input(input_)
    settings = connect(ctx).settings
    if models:
        check_models(settings, models.values())
    run = meant_run(settings, run)
    new_run = replay_run(settings, run, from_step, run_input=value, models=models, system_prompts=prompts, key=key)
    finish(settings, new_run, wait=wait, timeout=timeout, as_json=as_json)
