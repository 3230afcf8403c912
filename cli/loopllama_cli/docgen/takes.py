"""What providers take, from the rules of the catalog and the subsets of JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator

from loopllama.catalog.providers import KNOWN, OWN, Known
from loopllama.catalog.takes import RULES
from loopllama.llm.schema_subsets import SUBSETS, Subset
from loopllama_cli.docgen import markdown


def rules() -> str:
    """Return a table of what models refuse, each with its source and date."""
    return markdown.table(
        ["refused", "of", "why", "source", "seen"],
        (
            [
                rule.refuses,
                markdown.names(rule.providers) or f"names with `{rule.models}`",
                rule.why,
                rule.source,
                rule.seen,
            ]
            for rule in RULES
        ),
    )


def schemas() -> str:
    """Return a table of the subset of JSON Schema in which each provider takes answers and parameters of tools."""
    return markdown.table(["provider", "taken", "what", "source", "seen"], _rows())


def _rows() -> Iterator[list[str]]:
    by_subset: dict[str, list[str]] = {}
    for provider, known in (*KNOWN.items(), ("a server of your own", OWN)):
        for subset in _subsets(provider, known):
            by_subset.setdefault(subset, []).append(f"`{provider}`" if provider in KNOWN else provider)
    for name, rules in SUBSETS.items():
        source, seen = rules.source or "-", rules.seen or "-"
        yield [", ".join(by_subset.get(name, ())), rules.about, _what(rules), source, seen]


def _subsets(provider: str, known: Known) -> Iterator[str]:
    yield known.schemas
    yield known.parameters
    if provider == "bedrock":
        yield "nova tools"


def _what(rules: Subset) -> str:
    """Return what may stand, in words."""
    said = []
    if rules.keywords is not None:
        said.append("keywords " + " ".join(f"`{key}`" for key in sorted(rules.keywords)))
    if rules.worded:
        said.append("in words: " + " ".join(f"`{key}`" for key in sorted(rules.worded - (rules.keywords or set()))))
    if rules.formats is not None:
        said.append("formats " + ", ".join(sorted(rules.formats)))
    if rules.root is not None:
        said.append("at the root " + " ".join(f"`{key}`" for key in sorted(rules.root)))
    elif rules.loose:
        said.append("no union at the root")
    said += [
        text
        for holds, text in (
            (rules.loose, "what may not stand goes into the description"),
            (rules.references == "alone", "nothing beside a `$ref`"),
            (rules.references == "inlined", "no `$ref`: what it names stands in its place"),
            (not rules.recursive, "nothing that refers to itself"),
            (rules.closed, "objects have their own properties only"),
            (not rules.optional, "no optional properties"),
            (not rules.const, "`const` as `enum`"),
            (not rules.type_lists, "one type only, and `nullable`"),
            (not rules.look_around, "no pattern that looks around"),
        )
        if holds
    ]
    said += [f"at most {most:,} {what}" if what != "depth" else f"{most} levels" for what, most in rules.most.items()]
    return "; ".join(said) or "as it is"
