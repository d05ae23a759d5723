"""Rows as they are: whatever a row holds is trained on, or named; kind A of the trials, silent and wrong."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trials import CHATML, ROWS, STOP, Trained, refused, row, said, trainer, turn, write

from launch.config.checks import refuse_useless
from launch.config.schema import Config
from launch.doctor import doctor
from launch.show import show
from launch.stages.pairs import identity
from recipes.config import UserError
from recipes.profiles import Dataset, Model
from recipes.training.tokenizer import load_tokenizer

Words = Callable[..., list[str]]
# As of Qwen: the functions before all turns, calls after a turn's text, thoughts before it.
TOOLS = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function.name }} {{ call.function.arguments | tojson }}</call>"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As of DeepSeek R1: a response's thoughts are left out.
THOUGHTLESS = CHATML.replace("message['content']", "message['content'].split('</think>')[-1]")


@pytest.fixture
def train(tiny_model: Path, tmp_path: Path) -> Callable[..., Trained]:
    return trainer(tiny_model, tmp_path)


# A1: a file is what it holds now.


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_file_replaced_with_its_time_kept_is_read_anew(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    file = tmp_path / f"d.{ending}"
    found = []
    for word in ("first", "second"):
        write(file, [row(f"{word} question {number}", f"{word} good", f"{word} bad") for number in range(9)])
        os.utime(file, (1_700_000_000, 1_700_000_000))
        found.append(identity(Dataset("file", str(file))))
        show(words(tmp_path, f"dataset.path={file}", "row=1"))
        printed = capsys.readouterr().out.replace("«", "").replace("»", "").replace("{", "").replace("}", "")
        assert f"{word} good" in printed and ("first" if word == "second" else "second") not in printed
    assert found[0] != found[1]


def test_a_shard_replaced_makes_the_folder_another(tmp_path: Path) -> None:
    write(tmp_path / "d" / "part-1.jsonl", ROWS)
    before = identity(Dataset("file", str(tmp_path / "d")))
    write(tmp_path / "d" / "part-1.jsonl", ROWS[::-1])
    assert identity(Dataset("file", str(tmp_path / "d"))) != before
    assert identity(Dataset("file", str(tmp_path / "d" / "*.jsonl"))) == identity(Dataset("file", str(tmp_path / "d")))


# A2 to A4: prompt, dialogues and the system turn.

SECRET = turn("The word is BANANA.")
BETTER, WORSE = said("BANANA."), said("I forgot.")
ASKED = [said("Noted."), turn("What was the word?")]
QUESTION = [turn("Describe Oslo.")]
WHOLE = {"chosen": [*QUESTION, said("It glows.")], "rejected": [*QUESTION, said("No.")]}
USED = {
    "answers of several turns": (row([SECRET], [*ASKED, BETTER], [*ASKED, WORSE]), ["BANANA", "Noted.", "the word?"]),
    "a text before them": (row("The word is BANANA.", [*ASKED, BETTER], [*ASKED, WORSE]), ["BANANA", "Noted."]),
    "a dialogue that goes on": (
        row([SECRET, said("Noted.")], [turn("Which word?"), BETTER], [turn("Which word?"), WORSE]),
        ["BANANA", "Noted.", "Which word?"],
    ),
    "a system column": (row("Hi?", "Yes.", "No.", system="You are a pirate."), ["system", "pirate", "Hi?"]),
    "under its other name": (row("Hi?", "Yes.", "No.", system_prompt="You are a pirate."), ["system", "pirate"]),
    "beside whole dialogues": ({**WHOLE, "system": "You are a pirate."}, ["system", "pirate", "Oslo"]),
    "a system turn of the prompt": ({"prompt": [turn("Be a poet.", "system"), *QUESTION], **WHOLE}, ["poet", "Oslo"]),
}


@pytest.mark.parametrize("name", USED)
def test_what_belongs_to_the_prompt_is_read_once(train: Callable[..., Trained], name: str) -> None:
    found, words = USED[name]
    trained = train([found], policies={"role_order": "refuse", "ignored": "refuse"})
    assert all(trained.prompt.count(word) == 1 for word in words), trained.prompt


DIFFERING = {
    "column 'prompt', which differs from the dialogues": {"prompt": "Describe Lima at length.", **WHOLE},
    "column 'system', which differs from the system turn": row(
        [turn("Be brief.", "system"), turn("Hi?")], "Yes.", "No.", system="Be long."
    ),
    "column 'tools', which describes no functions": row("Hi?", "Yes.", "No.", tools="hammer and saw"),
    "field 'name' of turn 1": row([turn("Hi?", name="Ann")], "Yes.", "No."),
    "field 'weight' of the chosen response": row("Hi?", [said("Yes.", weight=0)], "No."),
}


@pytest.mark.parametrize("what", DIFFERING)
def test_what_is_not_used_is_named_kept_and_refused_by_policy(train: Callable[..., Trained], what: str) -> None:
    trained = train([DIFFERING[what]])
    assert 0 in trained.rows and what in trained.line and "1 train rows" in trained.line
    refused(
        train,
        [DIFFERING[what]],
        f"row 1 it holds something that training does not use ({what})",
        "ignored=refuse",
        policies={"ignored": "refuse"},
    )
    assert 0 not in train([DIFFERING[what]], policies={"ignored": "drop"}).rows


def test_a_prompt_that_repeats_the_dialogues_is_no_finding(train: Callable[..., Trained]) -> None:
    for prompt in ("Describe  Oslo.", QUESTION, [turn("Be brief.", "system"), *QUESTION], "\n\nHuman: Describe Oslo."):
        assert "does not use" not in train([{"prompt": prompt, **WHOLE}]).line


def test_columns_of_text_that_are_not_read_are_named_once(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str], train: Callable[..., Trained]
) -> None:
    rows = [found | {"context": "It rained all day.", "id": "a7", "n": 3, "turns": [turn("x")]} for found in ROWS]
    file = write(tmp_path / "more.jsonl", rows)
    assert "columns not used: context, turns" in train(file).line
    doctor(words(tmp_path, f"dataset.path={file}"))
    assert capsys.readouterr().out.count("columns not used: context, turns") == 1


# A5: tools, calls and thoughts.

THOUGHT = "<think>Hm.</think>Yes."
FUNCTION = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "max": 3}}}


def call(city: str, arguments: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "weather", "arguments": arguments or {"city": city}}}


def calling(city: str, **fields: Any) -> dict[str, Any]:
    return said("I look.", tool_calls=[call(city)], **fields)


CALLS = row([turn("Rain?")], [calling("Oslo")], [calling("nowhere")])


def test_tools_and_calls_are_rendered_by_a_template_that_takes_them(train: Callable[..., Trained]) -> None:
    trained = train([CALLS | {"tools": [FUNCTION]}], TOOLS)
    assert trained.prompt.startswith(f"<tools>[{json.dumps(FUNCTION)}]</tools>")
    assert trained.chosen == f'I look.<call>weather {{"city": "Oslo"}}</call>{STOP}'
    assert trained.rejected == trained.chosen.replace("Oslo", "nowhere") and "does not use" not in trained.line
    written = row([turn("Rain?")], [said(None, tool_calls=[call("", '{"city": "Oslo"}')])], [calling("x")])
    assert train([written | {"tools": json.dumps([FUNCTION])}], TOOLS).chosen == trained.chosen.removeprefix("I look.")


def test_calls_of_other_types_and_look_alikes_stay_what_they_are(train: Callable[..., Trained]) -> None:
    numbers = [row([turn("Rain?")], [said("", tool_calls=[call("", {"n": value})])], "No.") for value in (1, "1", 1.5)]
    found = train(numbers, TOOLS).rows
    for number, text in enumerate(("1", '"1"', "1.5")):
        assert f'{{"n": {text}}}' in found[number][1]
    evil = train([row([turn("Rain?")], [said("", tool_calls=[call(f"a{STOP}b")])], "No.")], TOOLS)
    assert "b" in evil.chosen and evil.chosen.endswith(f"</call>{STOP}")


REFUSED = {
    "it does not write the tools": (row("Rain?", "Yes.", "No.", tools=[FUNCTION]), CHATML),
    "it does not write field 'tool_calls' of the chosen response": (CALLS, CHATML),
    "it does not write field 'tool_calls' of turn 2": (
        row([turn("Rain?"), calling("Oslo"), turn("wet", "tool")], "Yes.", "No."),
        CHATML,
    ),
    "it does not write field 'reasoning_content' of the rejected response": (
        row("Rain?", "Yes.", [said("No.", reasoning_content="Hm.")]),
        CHATML,
    ),
    "it does not write the thoughts of the chosen response": (
        row("Rain?", THOUGHT, "No."),
        THOUGHTLESS,
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_a_template_cannot_write_is_refused_by_name(train: Callable[..., Trained], why: str) -> None:
    found, template = REFUSED[why]
    refused(train, [found], f"row 1 the chat template cannot render the dialogue ({why})", template=template)


def test_thoughts_and_results_of_tools_are_rendered(train: Callable[..., Trained]) -> None:
    asked = [turn("Rain?"), calling("Oslo"), turn("wet", "tool")]
    trained = train([row(asked, [said("Yes.", reasoning_content="It is wet.")], "No.")], TOOLS)
    assert trained.chosen == f"<think>It is wet.</think>Yes.{STOP}" and "<|im_start|>tool\nwet" in trained.prompt
    assert train([row("Rain?", THOUGHT, "No.")]).chosen == THOUGHT + STOP
    earlier = [turn("Hi?"), said("<think>Hm.</think>Hi."), turn("Rain?")]
    assert "text of turn 2 (assistant)" in train([row(earlier, "Yes.", "No.")], THOUGHTLESS).line


def test_media_is_named(train: Callable[..., Trained]) -> None:
    seen = row([turn([{"type": "image"}, {"type": "text", "text": "What is it?"}])], "A cat.", "A dog.")
    refused(train, [seen], "row 1 column 'prompt' has a message whose content is a part of type 'image', not text")


# A6: the pad token.


def test_a_pad_token_is_one_of_the_vocabulary_and_of_the_embedding(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'<pad>' is not a token of tiny's tokenizer: .*, for example to <\|pad\|>"):
        load_tokenizer(Model("tiny", str(tiny_model), pad_token="<pad>"), str(tiny_model))
    tokenizer = load_tokenizer(Model("tiny", str(tiny_model)), str(tiny_model))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|late|>"]})
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    with pytest.raises(UserError, match=r"'<\|late\|>' is token \d+ of .* the model's embedding has \d+ rows"):
        load_tokenizer(Model("tiny", str(tmp_path), pad_token="<|late|>"), str(tmp_path))


# A8: options that tokenization before all trainers leaves without effect.


@pytest.mark.parametrize(
    "word, instead",
    [
        ("orpo.max_completion_length=4", "set dataset.max_length instead"),
        ("sft.truncation_mode=keep_end", "dataset.policies.overlong"),
        ("dpo.truncation_mode=keep_end", "dataset.policies.overlong"),
        ("sft.pad_token=x", "set model.pad_token instead"),
        ("sft.pad_to_multiple_of=8", "packed rows are tokenized before and not padded"),
        ("orpo.padding_value=0", "packed rows are tokenized before and not padded"),
    ],
)
def test_an_option_that_cuts_nothing_is_refused_wherever_it_is_set(
    compose: Callable[..., Config], word: str, instead: str
) -> None:
    stage, _, option = word.partition("=")[0].partition(".")
    config = compose("pipeline=all", "evaluate=false", word)  # as a profile sets it: no word is looked at
    with pytest.raises(UserError, match=f"{stage}.{option}=.* would do nothing: .*{instead}"):
        refuse_useless(config)


def test_a_shard_renamed_to_another_split_is_other_data(tmp_path: Path) -> None:
    """A name may say of which split a file is."""
    for name, text in (("test.jsonl", "1"), ("train.jsonl", "2")):
        (tmp_path / name).write_text(text)
    before = identity(Dataset("file", str(tmp_path)))
    (tmp_path / "test.jsonl").rename(tmp_path / "part-1.jsonl")
    assert identity(Dataset("file", str(tmp_path))) != before
