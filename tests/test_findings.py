"""What is found in preference pairs, and what the policies make of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonl import write_rows
from samples import both
from tokenizers.processors import TemplateProcessing

from launch.stages.pairs import check
from recipes.config import UserError
from recipes.data.filter import rule
from recipes.data.findings import (
    REASONS,
    Evaluated,
    evaluation_prompts,
    near_duplicates,
    prompt_key,
    repeated,
    unfinished,
)
from recipes.data.messages import out_of_order
from recipes.data.tokenize import Split, examine
from recipes.profiles import Dataset, Model, Policies
from recipes.training.tokenizer import load_tokenizer

ROOT = Path(__file__).parent.parent
STOP = "<|im_end|>"
Examine = Callable[..., dict[str, Split]]


def row(prompt: Any, chosen: Any, rejected: Any, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def said(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


@pytest.fixture
def model(tiny_model: Path) -> Model:
    return Model("tiny", str(tiny_model), stop_tokens=[STOP], pad_token="<|pad|>")


@pytest.fixture
def look(model: Model, tmp_path: Path) -> Examine:
    """Examine rows with the tiny model's tokenizer."""

    def make(rows: list[Any], tokenizer: Any = None, thorough: bool = True, **options: Any) -> dict[str, Split]:
        dataset = Dataset("file", str(write_rows(tmp_path / "rows.jsonl", rows)), **options)
        tokenizer = tokenizer or load_tokenizer(model, model.model_name_or_path)
        return examine(dataset, [dataset], model, tokenizer, lambda _: None, thorough)

    return make


def test_rows_that_cannot_be_read_may_come_first(look: Examine) -> None:
    """A thousand are one batch; the type of its empty columns must not be taken for that of the others."""
    found = look([row("Q?", None, "No.")] * 1001 + [row("Question?", "Yes.", "No.")], thorough=False)["train"]
    assert len(found.findings.of("malformed")) == 1001 and found.rows["chosen_ids"][-1]


LONG = "This answer has well over eighty characters, as it must have before anybody asks whether it was cut "
FINE = [row(f"Question {number}?", f"Answer {number}.", f"Nothing {number}!") for number in range(4)]
SICK: dict[str, list[Any]] = {
    "malformed": [row("Q?", None, "No.")],
    "diverging": [row(None, [said("A?"), said("Yes.", "assistant")], [said("B?"), said("No.", "assistant")])],
    "empty": [row("Q?", " \n", "No.")],
    "identical": [row("Q?", "Yes. ", "Yes.")],
    "tied": [row("Q?", "Yes.", "No.", score_chosen=7.0, score_rejected=7.0)],
    "overlong": [row("zq " * 400, "Yes.", "No.")],
    "duplicate": [FINE[1]],
    "conflict": [row("Question 1?", "Nothing 1!", "Answer 1.")],
    "near_duplicate": [row("Q " + "word " * 50, "Yes.", "No."), row("q, " + "word " * 50, "Yes!", "No.")],
    "contaminated": [row("What was the tallest tower of the north before the war? Say.", "Yes.", "No.")],
    "role_order": [row([said("Q?"), said("Well?")], "Yes.", "No.")],
    "unfinished": [row("Q?", LONG + "of", "No.")],
}


@pytest.mark.parametrize("finding", SICK)
def test_each_finding_names_its_row_and_no_other(look: Examine, tmp_path: Path, finding: str) -> None:
    asked = write_rows(tmp_path / "asked.jsonl", [{"prompt": "what was the tallest tower of the north before the war"}])
    rows = [*FINE, *SICK[finding]]
    found = look(rows, max_length=512, evaluation_prompts=[str(asked)])["train"].findings
    expected = {finding: [len(rows) - 1]}
    if finding == "conflict":  # both sides are named: nobody knows which is right
        expected = {finding: [1, len(rows) - 1]}
    if finding == "duplicate":  # an exact copy is a near one too
        expected["near_duplicate"] = [len(rows) - 1]
    assert {name: found.of(name) for name in REASONS if found.of(name)} == expected


def test_a_conflict_takes_the_copies_with_it() -> None:
    a, b = ("k", "A", "B"), ("k", "B", "A")
    found = repeated(*zip(*[a, a, b, ("k", "A", "C"), ("other", "B", "A")], strict=True))  # type: ignore[arg-type]
    assert found["duplicate"] == [1] and sorted(found["conflict"]) == [0, 1, 2]


def test_prompts_are_equal_by_turn_not_by_text() -> None:
    key = prompt_key([said("Hi "), said("Yes", "assistant")])
    assert key == prompt_key([said("Hi"), said("Yes", "assistant")])
    assert key != prompt_key([said("Hi"), said("Yes")]) and key != prompt_key([said("Hi Yes")])


def test_roles_alternate_after_one_system_turn() -> None:
    system, user, assistant = said("S", "system"), said("U"), said("A", "assistant")
    for fine in ([user], [system, user], [user, assistant, user], [system, user, assistant, user]):
        assert not out_of_order(fine)
    for wrong in (
        [user, user],
        [assistant, user],
        [user, system],
        [system, system, user],
        [user, assistant, assistant],
    ):
        assert out_of_order(wrong)


def test_an_unfinished_answer_is_long_and_stops_in_a_word() -> None:
    assert unfinished(LONG + "of") and unfinished(LONG + "of,")
    for whole in ("Paris", LONG + "off.", LONG + "off.”", LONG + "```", LONG + "终于。", LONG + "42"):
        assert not unfinished(whole)


def test_near_duplicates_are_found_by_likeness_not_by_length() -> None:
    words = [f"w{number}" for number in range(300)]
    text = " ".join(words)
    changed = " ".join([*words[:299], "other"])  # shares 297 of 299 trigrams: Jaccard 0.99
    halved = " ".join(words[:150] + [f"v{number}" for number in range(150)])  # Jaccard under 0.35
    assert near_duplicates([text, changed, halved, text.upper(), "", "other"]) == [1, 3]


def test_contamination_needs_half_of_a_prompt() -> None:
    words = [f"w{number}" for number in range(27)]  # twenty 8-grams
    evaluated = Evaluated([" ".join(words), "Short one?"])
    assert evaluated.has("Before. " + " ".join(words[:17]) + ". After")  # ten of them
    assert not evaluated.has(" ".join(words[:16]))  # nine
    assert evaluated.has("short ONE") and not evaluated.has("short one, but longer")


@pytest.mark.parametrize("file", both("ifeval/input_data.jsonl"))
def test_ifevals_prompts_are_found_again_and_ordinary_ones_are_not(file: Path) -> None:
    prompts = evaluation_prompts([str(file)])
    evaluated = Evaluated(prompts)
    assert len(prompts) in (8, 541) and all(map(evaluated.has, prompts))
    long = [prompt for prompt in prompts if len(prompt.split()) > 12]
    assert len(long) > len(prompts) / 2
    assert all(evaluated.has(f"Please help me. {prompt.upper()} Thank you!") for prompt in long)
    assert not any(evaluated.has(f"Where is place {number}, and who lives there by the river?") for number in range(99))


def test_a_file_of_evaluation_prompts_must_hold_some(tmp_path: Path) -> None:
    benches = [{"instruction": "A"}, {"turns": ["B", "C"]}, {"prompt": "D", "key": 1}]
    (tmp_path / "array.json").write_text(json.dumps(benches))
    lines = write_rows(tmp_path / "lines.jsonl", benches)
    assert (
        evaluation_prompts([str(tmp_path / "array.json")]) == evaluation_prompts([str(lines)]) == ["A", "B", "C", "D"]
    )
    for name, text in (("a", '[{"question": "A"}]'), ("b", "{"), ("c", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="evaluation_prompts"):
            evaluation_prompts([str(tmp_path / name)])
    with pytest.raises(UserError, match="evaluation_prompts"):
        evaluation_prompts([str(tmp_path / "none")])


def test_a_lost_system_turn_is_seen(look: Examine, model: Model) -> None:
    tokenizer = load_tokenizer(model, model.model_name_or_path)
    rows = [row([said("Be brief.", "system"), said(f"Q{number}?")], "Yes.", "No.") for number in range(2)]
    assert not look(rows, tokenizer)["train"].findings.of("system_lost")
    tokenizer.chat_template = (
        "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    )
    assert look(rows, tokenizer)["train"].findings.of("system_lost") == [0, 1]
    tokenizer.chat_template = "{{ raise_exception('no system turns') if messages[0].role == 'system' }}"
    assert look(rows, tokenizer)["train"].findings.of("unrendered") == [0, 1]


@pytest.mark.parametrize("bos", ["none", "template", "tokenizer"])
def test_truncation_keeps_bos_stop_and_the_other_part(look: Examine, model: Model, bos: str) -> None:
    tokenizer: Any = load_tokenizer(model, model.model_name_or_path)
    if bos != "none":
        tokenizer.add_special_tokens({"bos_token": "<|bos|>"})
    if bos == "template":
        tokenizer.chat_template = "{{ '<|bos|>' }}" + tokenizer.chat_template
    if bos == "tokenizer":
        first = TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", tokenizer.bos_token_id)])
        tokenizer.backend_tokenizer.post_processor = first
    rows = [row("a b c d e f " * 20, "Yes.", "No, no, no!"), row("Q?", "x y z " * 50, "No."), FINE[0]]
    whole = look(rows, tokenizer, max_length=999)["train"].rows
    limit = 64
    prompt_cut, answer_cut = (
        look(rows, tokenizer, max_length=limit, policies={"overlong": policy})["train"]
        for policy in ("truncate_prompt", "truncate_answer")
    )
    stop = tokenizer.convert_tokens_to_ids(STOP)
    before, after = whole[0], prompt_cut.rows[0]
    head = [] if bos == "none" else [tokenizer.bos_token_id]
    assert (after["chosen_ids"], after["rejected_ids"]) == (before["chosen_ids"], before["rejected_ids"])
    assert len(after["prompt_ids"]) + max(len(after["chosen_ids"]), len(after["rejected_ids"])) == limit
    assert before["prompt_ids"][: len(head)] == head
    assert after["prompt_ids"] == head + before["prompt_ids"][len(head) - len(after["prompt_ids"]) :]
    before, after = whole[1], answer_cut.rows[1]
    assert (after["prompt_ids"], after["rejected_ids"]) == (before["prompt_ids"], before["rejected_ids"])
    assert len(after["prompt_ids"] + after["chosen_ids"]) == limit and after["chosen_ids"][-1] == stop
    assert after["chosen_ids"][:-1] == before["chosen_ids"][: len(after["chosen_ids"]) - 1]
    for cut, unfit in ((prompt_cut, [1]), (answer_cut, [0])):  # each side alone cannot shorten the other
        assert cut.findings.of("overlong") == [0, 1] and cut.findings.of("unfit") == unfit
        assert cut.rows[2]["chosen_ids"] == whole[2]["chosen_ids"]


def test_each_policy_does_what_it_says(look: Examine) -> None:
    rows = [*FINE, *SICK["empty"], *SICK["duplicate"], *SICK["tied"]]
    dataset = Dataset("file", "rows.jsonl")
    ruling = rule(look(rows), dataset)["train"]
    assert {name: found["rows"] for name, found in ruling.dropped.items()} == {"empty": ["5"], "duplicate": ["6"]}
    assert len(ruling.kept.rows) == 5 and ruling.kept.findings.of("tied") == [4]
    dataset.policies = Policies(duplicate="keep", tied="refuse")
    with pytest.raises(UserError, match=r"train row 7 both responses have the same score \[policies.tied=refuse\]"):
        rule(look(rows), dataset)
    dataset.policies.tied = "drop"
    assert list(rule(look(rows), dataset)["train"].dropped) == ["empty", "tied"]


def test_where_every_row_is_refused_no_policy_is_recommended(look: Examine) -> None:
    dataset = Dataset("file", "rows.jsonl", policies=Policies(tied="refuse"))
    with pytest.raises(UserError, match="all rows of train are affected: check its columns, and the model's chat"):
        rule(look(SICK["tied"] * 2), dataset)


def test_a_row_is_dropped_for_its_first_finding(look: Examine) -> None:
    rows = [*FINE, *SICK["overlong"] * 2]  # the second is a copy as well
    ruling = rule(look(rows, max_length=512), Dataset("file", "rows.jsonl"))["train"]
    assert {name: found["count"] for name, found in ruling.dropped.items()} == {"overlong": 2}


@pytest.mark.parametrize(
    "policies", [{"overlong": "keep"}, {"empty": "keep"}, {"tied": "maybe"}, {"leak": "truncate_prompt"}]
)
def test_a_policy_that_cannot_be_is_refused(policies: dict[str, str]) -> None:
    with pytest.raises(UserError, match=f"dataset.policies.{next(iter(policies))}="):
        check(Policies(**policies))
    check(Policies())
