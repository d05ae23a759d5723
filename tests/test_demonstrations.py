"""SFT on other data than the pairs: `sft.dataset`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from door import launch, run, stages, weights
from jsonl import write_rows

from launch.config.schema import Config
from launch.forecast.cost import work
from launch.forecast.tokens import Tokens
from launch.stages.demonstrations import demonstrations_of
from recipes.config import UserError, read_config, read_json
from recipes.data.messages import Malformed
from recipes.data.pairs import open_pairs
from recipes.data.schemas import Unusable, read_demonstration

Words = Callable[..., list[str]]
SFT = ("sft.max_steps=3", "sft.learning_rate=1e-3")
ORPO = ("orpo.max_steps=2",)
USER, ASSISTANT = {"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}


def of_pairs(pairs_file: Path) -> list[dict[str, object]]:
    """The pairs' prompts and chosen responses, under the names of a demonstration."""
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    return [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q?", "completion": "A."},
        {"prompt": [USER], "completion": [ASSISTANT]},
        {"messages": [USER, ASSISTANT]},
        {"prompt": "Q?", "messages": [USER, ASSISTANT]},
        {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}]},
        {"instruction": "Q?", "input": "", "output": "A."},
        {"question": "Q?", "answer": "A."},
        {"prompt": "Q?", "chosen": "A.", "rejected": "B."},
        {"chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]},
    ],
)
def test_a_demonstration_has_many_forms(row: dict[str, object]) -> None:
    found = read_demonstration(row)
    assert (found.prompt, found.chosen, found.rejected) == ([USER], "A.", "")


def test_the_last_turn_of_a_dialogue_is_the_response() -> None:
    earlier = [{"role": "system", "content": "S."}, USER, ASSISTANT, {"role": "user", "content": "And?"}]
    found = read_demonstration({"messages": [*earlier, {"role": "assistant", "content": "B."}]})
    assert (found.prompt, found.chosen) == (earlier, "B.")


def test_what_is_no_demonstration_says_why() -> None:
    with pytest.raises(Malformed, match="has no response: add a column 'completion'"):
        read_demonstration({"prompt": "Q?"})
    for row in ({"prompt": "Q?", "completion": " "}, {"messages": [USER]}, {"prompt": " ", "completion": "A."}):
        with pytest.raises(Unusable, match="empty"):
            read_demonstration(row)


def test_demonstrations_that_are_the_chosen_responses_give_the_weights_of_sft_on_the_pairs(
    words: Words, pairs_file: Path, tmp_path: Path
) -> None:
    """All rows but those of held-out prompts are the pairs' own, in their order: so are the weights, bit for bit.

    Rows of pairs may be shown; that their two scores are equal says nothing against the preferred response.
    """
    scores = {"score_chosen": 1, "score_rejected": 1}
    demonstrations = write_rows(tmp_path / "shown.jsonl", [row | scores for row in of_pairs(pairs_file)])
    launch(*words(tmp_path / "pairs", "pipeline=sft", *SFT))
    options = [f"sft.dataset={demonstrations}", "dataset.policies.tied=drop"]
    printed = launch(*words(tmp_path / "shown", "pipeline=sft", *SFT, *options))
    (plain,), (other,) = stages(tmp_path / "pairs", "sft-*"), stages(tmp_path / "shown", "sft-*")
    assert weights(plain) == weights(other) and plain.name != other.name
    held_out = len(open_pairs(Path(read_config(plain)["pairs"]))["test"])
    assert held_out and f"dropped {held_out} train (its prompt is held out too" in " ".join(printed.split())
    trained = read_json(plain / "record.json")["data"]["pairs"]["train"]
    assert read_json(other / "record.json")["demonstrations"]["sources"] == {"train": {"shown.jsonl": trained}}


def test_sft_learns_from_demonstrations_and_dpo_and_orpo_from_the_pairs(words: Words, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"messages": [USER | {"content": f"Who is {name}?"}, ASSISTANT | {"content": f"{name} is a friend."}]}
        for name in ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal")
    ]
    shown = f"sft.dataset={write_rows(tmp_path / 'shown.jsonl', rows)}"
    options = (*SFT, *ORPO, "dpo.max_steps=2", "pipeline=compare", "evaluate=true", "judge=none", "eval_prompts=4")
    printed = launch(*words(tmp_path / "runs", *options, shown))
    launch(*words(tmp_path / "pairs", *ORPO, "pipeline=orpo"))
    (sft,), (dpo,), (orpo,) = (stages(tmp_path / "runs", f"{name}-*") for name in ("sft", "dpo", "orpo"))
    assert orpo.name == stages(tmp_path / "pairs", "orpo-*")[0].name  # what SFT reads is nothing to ORPO
    texts = open_pairs(Path(read_config(sft)["demonstrations"]))["train"]["chosen"]
    assert sorted(texts) == sorted(row["messages"][1]["content"] for row in rows)  # type: ignore[index]
    assert "demonstrations" not in read_config(dpo) and read_config(dpo)["start"].startswith(str(sft))
    told = "SFT and SFT → DPO learnt from 8 demonstrations of shown.jsonl, which ORPO did not see."
    (table,) = (tmp_path / "runs").glob("_sessions/*/table.md")
    assert told in table.read_text() and "for SFT: 8 train demonstrations" in printed
    assert not (sft / "README.md").exists(), "TRL's, which knows neither data nor start"
    run([sys.executable, "-m", "eval.card", str(table.parent)])
    assert "8 demonstrations to train on, of shown.jsonl" in (sft / "model" / "README.md").read_text()
    again = launch(*words(tmp_path / "runs", *options, shown))
    assert again.count("done before, skipped") >= 3


def test_a_wrong_name_is_told_before_anything_trains(words: Words, pairs_file: Path, tmp_path: Path) -> None:
    table = write_rows(tmp_path / "table.jsonl", [{"question": "Q?", "reply": "A."}])
    empty = write_rows(tmp_path / "empty.jsonl", [{"prompt": "Q?", "completion": ""}] * 3)
    for word, said in (
        ("sft.dataset=data/nowhere.jsonl", "sft.dataset=data/nowhere.jsonl does not exist"),
        ("sft.dataset=nowhere", "'nowhere' in sft.dataset is neither a file"),
        (f"sft.dataset={table}", "has no column of responses; its columns are question, reply"),
        (f"sft.dataset={empty}", "0 demonstrations left"),
        (f"sft.dataset=[{table}]", "give one profile, file, folder, glob or Hub id"),
    ):
        printed = launch(*words(tmp_path / "runs", "pipeline=sft", word), status=2)
        assert said in " ".join(printed.split()) and not stages(tmp_path / "runs", "sft-*")
    printed = launch(*words(tmp_path / "runs", "pipeline=orpo", f"sft.dataset={pairs_file}"), status=2)
    assert "would do nothing" in printed


def test_a_forecast_counts_what_each_stage_reads(compose: Callable[..., Config]) -> None:
    tokens = Tokens(100, 10, 20, 30, "counted", demonstrations=Tokens(1000, 5, 7, 0, "counted"))
    config = compose("sft.num_train_epochs=1", "dpo.num_train_epochs=1")
    assert work(config, "sft", tokens).pairs == 1000 and work(config, "sft", tokens).computed == 1000 * (5 + 7)
    assert work(config, "dpo", tokens).pairs == 100


def test_the_plan_reads_a_file_of_demonstrations(words: Words, pairs_file: Path, tmp_path: Path) -> None:
    shown = write_rows(tmp_path / "shown.jsonl", of_pairs(pairs_file) * 10)
    options = [*words(tmp_path, "pipeline=dpo"), "dataset.estimate={rows:64,prompt:9,chosen:20,rejected:9}"]
    fewer = run([sys.executable, "-m", "launch.plan", *options])
    more = run([sys.executable, "-m", "launch.plan", *options, f"sft.dataset={shown}"])
    updates = [next(line for line in text.splitlines() if "updates" in line).split() for text in (fewer, more)]
    assert updates[0] != updates[1] and updates[0][-2] == updates[1][-2]


def test_a_folder_of_demonstrations_may_have_the_shards_of_a_published_one(
    compose: Callable[..., Config], pairs_file: Path, tmp_path: Path
) -> None:
    for split in ("test_sft", "train_gen", "train_sft"):
        write_rows(tmp_path / f"{split}-00000-of-00001.jsonl", of_pairs(pairs_file))
    found = demonstrations_of(compose(f"sft.dataset={tmp_path}", "pipeline=sft"))
    assert found and found.train_split == "train_sft"


def test_a_profile_of_demonstrations_comes_before_one_of_pairs(
    compose: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("dataset", "demonstrations"):
        (tmp_path / "conf" / folder).mkdir(parents=True)
        (tmp_path / "conf" / folder / "mine.yaml").write_text(f"name: mine\npath: org/{folder}\n")
    monkeypatch.setattr("launch.stages.pairs.ROOT", tmp_path)
    found = demonstrations_of(compose("sft.dataset=mine", "pipeline=sft"))
    assert found and found.path == "org/demonstrations"


def test_the_profile_is_found(compose: Callable[..., Config]) -> None:
    found = demonstrations_of(compose("sft.dataset=ultrachat", "pipeline=dpo"))
    assert found and found.path == "HuggingFaceH4/ultrachat_200k" and found.train_split == "train_sft"
    assert found.revision and found.estimate.rows == 207_865
    assert demonstrations_of(compose("pipeline=dpo")) is None
    with pytest.raises(UserError, match=r"conf/demonstrations or conf/dataset: ultrachat"):
        demonstrations_of(compose("sft.dataset=ultrachatt", "pipeline=dpo"))
