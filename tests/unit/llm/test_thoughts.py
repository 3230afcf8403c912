"""Thoughts in an answer's text: told apart from the answer, and nothing else taken away."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.llm.thoughts import apart, blocks, is_open

ANSWER = 'Dear customer, <b>sorry</b>.\n\n{"urgency": "high"}'
TAGS = [
    ("<think>", "</think>"),
    ("<THINK>", "</THINK>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
]
ANALYSIS, FINAL = "<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>final<|message|>"
CALL = '<|start|>assistant<|channel|>commentary to=functions.search <|constrain|>json<|message|>{"q": 1}<|call|>'


@pytest.mark.parametrize(("opening", "closing"), TAGS)
@pytest.mark.parametrize("between", ["", " ", "\n\n"])
def test_a_block_before_the_answer(opening: str, closing: str, between: str) -> None:
    thought = 'It may be {"urgency": "low"}.\nNo: he leaves.'
    assert apart(f"{between}{opening}{thought}{closing}{between}{ANSWER}")[0] == ANSWER
    assert thought in apart(f"{opening}{thought}{closing}{ANSWER}")[1]
    # Several, and an empty one, as models write whose thinking is turned off.
    assert apart(f"{opening}a{closing}\n{opening}\n{closing}\n\n{ANSWER}")[0] == ANSWER


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Is it low?\n</think>\n\nhigh", "high"),
        ("Is it low?</think>high", "high"),
        ('{"urgency": "low"} may be wrong.\n</think>{"urgency": "high"}', '{"urgency": "high"}'),
        ("<think>never closed, cut off by the limit", ""),
        ("<think>only thoughts</think>", ""),
        ("<think>a <think> b</think> c</think>high", "high"),
        ("<think>I could write <think> here.</think>high", "high"),
        ("<think>a</think>one\n<think>b</think>\ntwo", "one\ntwo"),
        ("\ufeff<think>a</think>high", "high"),
        ("<think >a</think\n>high", "high"),
        ("Is it low? </think> high", "high"),
        ("Hm. </think> the answer is high", "the answer is high"),
        ("Sure.\n<think>\nHm.\n</think>\nDear customer", "Sure.\nDear customer"),
        ("Sure.\n<think>Hm.</think>\nDear customer", "Sure.\nDear customer"),
        (
            "<think>a</think>So:\n```\n<think>\nx\n</think>\n```\n<think>b</think>\nend",
            "So:\n```\n<think>\nx\n</think>\n```\nend",
        ),
        ("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>high<|end_of_solution|>", "high"),
        ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>high<|END_RESPONSE|>", "high"),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>high<|return|>", "high"),
        ("<|channel>thought\nHm, it may be", ""),
        ("<|channel>thought\n<channel|>high", "high"),
        ("Hm.<channel|>high", "high"),
        ("Hm.<unused95>high", "high"),
        # gpt-oss: cut off within its thoughts, with an answer that has no header, with what it says on the way
        (f"{ANALYSIS}It may be", ""),
        (f"{ANALYSIS}Hm.<|end|>", ""),
        ("<|channel|>analysis", ""),
        (f"{ANALYSIS}Hm.<|end|>high", "high"),
        (f"{ANALYSIS}Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>", "I look."),
        (f"{ANALYSIS}a<|end|><|start|>assistant{ANALYSIS}b<|end|>{FINAL}high<|return|>", "high"),
        (f"{ANALYSIS}Hm.<|end|><|channel|>final <|constrain|>json<|message|>[1]<|return|>", "[1]"),
        (f"{FINAL}high<|return|>", "high"),
        (f"{ANALYSIS}Hm.<|end|>{CALL}", CALL),
        (CALL, CALL),
        # gpt-oss without its signs
        ("analysisWe need a word.assistantfinalhigh", "high"),
        ("analysis: hm\nassistantfinal high", "high"),
        ('analysisuser asks. "assistantfinal" is next.assistantfinal{"a": 1}', '{"a": 1}'),
        ("analysisWe need to", ""),
        ("analysisI look.assistantcommentary to=functions.f json{}", "assistantcommentary to=functions.f json{}"),
    ],
)
def test_other_forms(text: str, answer: str) -> None:
    assert apart(text)[0] == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        ANSWER,
        "Close the block with `</think>`, then answer.",
        'He wrote "</think>" twice.',
        json.dumps({"html": "<think>x</think> y"}),
        json.dumps(["</think>", 1]),
        "<reasoning>he was charged twice</reasoning>\n<answer>billing</answer>",
        "<thinking>is all that was asked for</thinking>",
        "<thinking aloud is fine",
        "The tag <think> opens a block.",
        "The model writes <|channel|>analysis<|message|> before it thinks.",
        "<|channel|>analysis<|message|> opens its thoughts, <|channel|>final<|message|> the answer.",
        "`<|channel|>analysis` opens its thoughts.",
        "<|channel|>analysis, then <|channel|>final.",
        "Gemma 4 opens its thoughts with <|channel>thought and closes them with `<channel|>`.",
        "analysis of the tickets: assistantfinal is a word.",
        "analysis",
        "analysisResult = high",
        "Analysis: the user is charged twice.",
        "The log says analysisWe and assistantfinal.",
        "The parser looks for </think> and drops what is before it.",
        "A block is closed by </think>. Nothing else closes it.",
        "The tags are <think> and </think>, see there.",
        "The tags:\n<think> opens a block\n</think> closes it\n",
        "As in\n```\n<think>\nx\n</think>\n```\nit stands.",
        "As in\n\n    <think>\n    x\n    </think>\n\nit stands.",
    ],
)
def test_what_is_the_answer_stays_to_the_letter(text: str) -> None:
    assert apart(text) == (text, "")


@given(st.text(alphabet="<>/[]◁▷|think{}\"' \n`THINKa", max_size=200))
def test_any_text_is_parted(text: str) -> None:
    answer, thoughts = apart(text)
    assert len(answer) + len(thoughts) <= len(text) + text.count("<")
    assert answer in text or "<think>" in thoughts
    assert (answer == text) or thoughts


@pytest.mark.parametrize(
    "text",
    [
        "</think>" * 100_000,
        "<think></think>" * 60_000,
        "<think>" * 60_000 + "</think>" * 60_000,
        " " * 10**6 + "<",
        "a\n" + "<think>\n" * 60_000,
        "a\n" + "<think>x</think>y\n" * 40_000,
        "a <think>" * 60_000,
        "```\n" * 200_000 + "<",
        "<|channel|>analysis<|message|>" * 30_000,
        "<|channel|>analysis<|message|>" + "<|start|>" * 100_000,
        "analysisWe" + "assistantfinal" * 60_000,
        "<|channel>thought\n" * 50_000,
        "<unused94>" * 90_000,
    ],
)
def test_a_megabyte_is_parted_in_good_time(text: str) -> None:
    started = time.process_time()
    apart(text)
    blocks(text)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "ends"),
    [("<think>a</think>", True), ("a</think>", False), ("<think>a", False), ("<think>a</think>\n<think>b", False)],
)
def test_whether_thoughts_end(text: str, ends: bool) -> None:
    assert is_open(text) is not ends
