"""lm-evaluation-harness on a model as it was trained to be spoken to, and on answers that exist; nothing downloaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from samples import both

from eval.answers.benchmarks import load
from eval.answers.dialogues import Speaker
from eval.harness import VERSION, Options, evaluate, main
from eval.results.sentences import sentence_model
from recipes.config import UserError

QUESTIONS = [("Where is Ashford?", 0), ("Who lives in Claywick?", 1), ("How old is Daleby, would you say?", 1)]
CHOICES = ["by the river", "No idea"]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of three questions with two choices, as lm-eval's YAML."""
    home = tmp_path_factory.mktemp("tasks")
    rows = [{"question": question, "answer": answer} for question, answer in QUESTIONS]
    (home / "rows.json").write_text(json.dumps(rows))
    task = {
        "task": "places",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(home / "rows.json")}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_target": "answer",
        "doc_to_choice": CHOICES,
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }
    (home / "places.yaml").write_text(yaml.safe_dump(task))
    return home


def results(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


@pytest.mark.filterwarnings("ignore")  # lm-eval's and its libraries'
def test_a_multiple_choice_task_ranks_as_the_model_does(tiny_model: Path, tasks: Path) -> None:
    file = evaluate(tiny_model, Options(tasks="places", tasks_dir=str(tasks)))
    assert file.parent == tiny_model / "eval" and file.name.startswith(f"lm-eval-{VERSION}-places-")
    found = results(file)
    speaker = Speaker.load(tiny_model)
    right = 0
    for (question, answer), sample in zip(QUESTIONS, found["samples"]["places"], strict=True):
        (prompt,) = speaker.prompt_ids([[{"role": "user", "content": question}]])
        scores = [log_prob(speaker, prompt, choice) for choice in CHOICES]
        # lm-eval counts the line break that the template ends in with the choice: the same for each
        (ours, theirs), (first, second) = scores, (score for score, _ in sample["filtered_resps"])
        assert first - second == pytest.approx(ours - theirs, abs=1e-3)
        right += scores.index(max(scores)) == answer
    assert found["results"]["places"]["acc,none"] == pytest.approx(right / len(QUESTIONS))
    written = file.stat().st_mtime_ns
    assert evaluate(tiny_model, Options(tasks="places", tasks_dir=str(tasks))) == file
    assert file.stat().st_mtime_ns == written, "what was measured is not measured again"
    (tasks / "places.yaml").write_text((tasks / "places.yaml").read_text() + "# changed\n")
    assert evaluate(tiny_model, Options(tasks="places", tasks_dir=str(tasks))) != file, "a changed task is"


def log_prob(speaker: Speaker, prompt: list[int], choice: str) -> float:
    """The sum of log P of a choice's tokens after a prompt, from the model itself."""
    ids: Any = speaker.tokenizer(choice, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = speaker.model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    return float(torch.log_softmax(logits.float(), -1)[range(len(ids)), ids].sum())


@pytest.mark.filterwarnings("ignore")
def test_the_harness_speaks_to_a_model_as_training_did(tiny_model: Path) -> None:
    lm: Any = load(tiny_model, batch_size=8)
    messages = [{"role": "user", "content": "Who lives in Birchham?"}]
    speaker = Speaker.load(tiny_model)
    assert lm.tok_encode(lm.apply_chat_template(messages)) == speaker.prompt_ids([messages])[0]
    assert lm.model.generation_config.eos_token_id == speaker.stops == [2]


@pytest.mark.filterwarnings("ignore")
def test_given_answers_are_scored_by_the_harness_itself(tmp_path: Path) -> None:
    wanted = [
        ("Say it without commas.", "punctuation:no_comma", {}, "No commas, none.", False),
        ("Say it in small letters.", "change_case:english_lowercase", {}, "all of it is in small letters", True),
        # two sentences for a reader who knows that Dr. and p.m. end none
        ("At most two sentences!", "length_constraints:number_sentences", {"relation": "less than", "num_sentences": 3},
         "Dr. Smith came at 5 p.m. on Friday. Nobody was there.", True),
    ]  # fmt: skip
    rows, answers = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    asked = [
        {"key": n, "prompt": prompt, "instruction_id_list": [instruction], "kwargs": [values]}
        for n, (prompt, instruction, values, *_) in enumerate(wanted)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in asked))
    given = [{"prompt": prompt, "response": response} for prompt, *_, response, _ in reversed(wanted)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in given))
    found = results(evaluate(answers, Options(tasks="ifeval", data=str(rows))))
    assert [sample["prompt_level_strict_acc"] for sample in found["samples"]["ifeval"]] == [row[-1] for row in wanted]
    assert found["results"]["ifeval"]["prompt_level_strict_acc,none"] == pytest.approx(2 / 3)


@pytest.mark.filterwarnings("ignore")
def test_prompts_without_an_answer_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of four is not answered, one was answered when it was worded differently, one has other white space."""
    prompts = [f"Name {place} without any commas, and in at least one sentence." for place in ("Rome", "Oslo", "Bonn")]
    rows = ifeval_rows(tmp_path, [*prompts, "Something else."], "punctuation:no_comma")
    told = [prompts[0], prompts[1].replace("one sentence", "3 sentences"), prompts[2].replace(" ", "  ")]
    said = ["Rome.", "Oslo, and so on.", "Bonn, Bonn."]
    answers = write(
        tmp_path / "answers.jsonl", *({"prompt": a, "response": b} for a, b in zip(told, said, strict=True))
    )
    options = Options(tasks="ifeval", data=str(rows))
    for _ in range(2):  # measured, then read
        main([str(answers)], options)
        said = " ".join(capsys.readouterr().out.split())
        assert "2 of 4 prompts not scored: 1 have no response, 1 one to a prompt in slightly other words" in said
        assert "such as 'Name Oslo without" in said
    found = results(evaluate(answers, options))
    assert [sample["doc_id"] for sample in found["samples"]["ifeval"]] == [0, 2]
    assert found["results"]["ifeval"]["prompt_level_strict_acc,none"] == pytest.approx(1 / 2)
    with pytest.raises(UserError, match="lacks a response to every prompt of ifeval, such as 'Name Rome"):
        evaluate(write(tmp_path / "none.jsonl", {"prompt": "Who?", "response": "I."}), options)


@pytest.mark.filterwarnings("ignore")
def test_the_same_answers_have_the_same_figures_every_time(tmp_path: Path) -> None:
    """IFEval detects the language of answers in small letters, and langdetect is sure of this one's in no two runs."""
    prompts = [f"Say it in small letters, {number}." for number in range(4)]
    rows = ifeval_rows(tmp_path, prompts, "change_case:english_lowercase")
    given = [{"prompt": prompt, "response": "an animal in a net"} for prompt in prompts]
    answers = write(tmp_path / "answers.jsonl", *given)
    seen = []
    for _ in range(4):
        file = evaluate(answers, Options(tasks="ifeval", data=str(rows)))
        seen += [sample["prompt_level_strict_acc"] for sample in results(file)["samples"]["ifeval"]]
        file.unlink()
    assert len(seen) == 16 and len({*seen}) == 1


def ifeval_rows(directory: Path, prompts: list[str], instruction: str) -> Path:
    """IFEval's rows, all with one instruction."""
    rows = [
        {"key": number, "prompt": prompt, "instruction_id_list": [instruction], "kwargs": [{}]}
        for number, prompt in enumerate(prompts)
    ]
    return write(directory / "rows.jsonl", *rows)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prompts", both("ifeval/input_data.jsonl"))
def test_a_model_answers_ifevals_prompts(tiny_model: Path, prompts: Path) -> None:
    options = Options(tasks="ifeval", data=str(prompts), limit=5, gen_kwargs="max_gen_toks=8")
    found = results(evaluate(tiny_model, options))
    samples = found["samples"]["ifeval"]
    assert [sample["doc"]["key"] for sample in samples] == [
        json.loads(line)["key"] for line in prompts.read_text().splitlines()[:5]
    ]
    strict = [sample["prompt_level_strict_acc"] for sample in samples]
    assert found["results"]["ifeval"]["prompt_level_strict_acc,none"] == pytest.approx(sum(strict) / 5)
    assert all(sample["arguments"][0][0].endswith("<|im_start|>assistant\n") for sample in samples)


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_scored_is_said(tiny_model: Path, tmp_path: Path, tasks: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"key": 0, "prompt": "Hm?", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}\n')
    with pytest.raises(UserError, match=r"maximum sequence length \(2048\)\. For shorter responses use gen_kwargs="):
        evaluate(tiny_model, Options(tasks="ifeval", data=str(rows), gen_kwargs="max_gen_toks=4096"))
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"prompt": "Where is Ashford?", "response": "Here."}) + "\n")
    with pytest.raises(UserError, match=r"places needs log-likelihoods, which .*answers.jsonl lacks: name a model"):
        evaluate(answers, Options(tasks="places", tasks_dir=str(tasks)))
    with pytest.raises(UserError, match="no text in response"):
        evaluate(write(tmp_path / "other.jsonl", {"prompt": "x"}), Options(tasks="places", tasks_dir=str(tasks)))
    assert not list(tmp_path.glob("lm-eval-*"))


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_sentences_are_counted_as_nltk_counts_them_and_nothing_stays_behind() -> None:
    nltk = pytest.importorskip("nltk")
    before = list(nltk.data.path)
    with sentence_model():
        assert nltk.sent_tokenize("Mr. Red met Dr. Blue in the U.S. Senate. They talked.") == [
            "Mr. Red met Dr. Blue in the U.S. Senate.",
            "They talked.",
        ]
    assert nltk.data.path == before
