"""Find what is wrong with preference pairs before training: each finding by name, with its rows.

A row may have several findings. The data set's policies decide what happens to it, see `recipes.profiles.Policies`.
Nothing here changes a row.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from recipes.config import UserError, read_json_rows
from recipes.profiles import KEEP, Policies
from recipes.system.paths import expanded

REASONS = {
    "malformed": "a column is missing or holds something else",
    "unrendered": "the chat template cannot render the dialogue",
    "diverging": "the responses belong to different prompts",
    "empty": "the prompt or a response is empty or missing",
    "identical": "the responses are identical",
    "undecided": "its judgement is a tie: neither response is preferred",
    "alone": "no response with the opposite label is left for it; policies.alone=keep trains KTO and SFT on it",
    "tied": "both responses have the same score",
    "overlong": "longer than dataset.max_length",
    "unfit": "longer than dataset.max_length even when truncated",
    "duplicate": "an earlier row has the same prompt and responses",
    "conflict": "another row prefers the response that this one rejects",
    "near_duplicate": "nearly the same prompt and responses as an earlier row",
    "leak": "its prompt is held out too",
    "contaminated": "its prompt is in an evaluation set",
    "role_order": "two turns of one role in a row, or a late system turn",
    "system_lost": "the chat template leaves the system turn out",
    "ignored": "it holds something that training does not use",
    "rendered": "its text holds a chat template's marks, as if it had been rendered before",
    "unfinished": "a response ends in the middle of a sentence",
}
SAID = (
    "name",
    "tool_calls",
    "tool_call_id",
    "reasoning_content",
    "reasoning",
    "thinking",
)  # a message's fields that are part of the dialogue
# What chat templates write between turns, in text that no template has written yet.
MARKS = re.compile(r"<\|(im_start|im_end|start_header_id|eot_id|user|assistant)\|>|\[/?INST\]|<(start|end)_of_turn>")
NGRAM = 8  # words, as in Tülu 3's decontamination
OVERLAP = 0.5  # share of an evaluation prompt's n-grams that makes a training prompt count as its copy
WORD = re.compile(r"\w+")


@dataclass
class Findings:
    """Finding -> the indices of its rows, for one split."""

    rows: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def add(self, finding: str, indices: Iterable[int]) -> None:
        """Add rows with a finding."""
        assert finding in REASONS
        self.rows[finding].update(indices)

    def of(self, finding: str) -> list[int]:
        """Return the rows with a finding, in order."""
        return sorted(self.rows.get(finding, ()))

    def verdict(self, policies: Policies, policy: str) -> dict[int, str]:
        """Return row -> the first finding that has `policy`."""
        found: dict[int, str] = {}
        for finding in REASONS:
            if getattr(policies, finding) == policy:
                for index in self.of(finding):
                    found.setdefault(index, finding)
        return found


def prompt_key(prompt: list[dict[str, Any]], tools: Any = None) -> str:
    """Return a digest of a prompt, independent of the model's template."""
    turns: list[Any] = []
    for message in prompt:
        fields = {name: message[name] for name in SAID if name in message}  # not an id, a time or a model's name
        turns.append([message["role"], message["content"].strip(), *([fields] if fields else [])])
    turns += [{"tools": tools}] if tools else []
    return hashlib.sha256(json.dumps(turns, default=str).encode()).hexdigest()


def repeated(keys: Sequence[str], chosen: Sequence[str], rejected: Sequence[str]) -> dict[str, list[int]]:
    """Find exact duplicates of an earlier row, and conflicts (both rows, if one prefers A to B and one B to A)."""
    first: dict[tuple[str, str, str], int] = {}
    duplicates, conflicts = [], []
    for index, pair in enumerate(zip(keys, chosen, rejected, strict=True)):
        if first.setdefault(pair, index) != index:
            duplicates.append(index)
    for (key, better, worse), index in first.items():
        if (key, worse, better) in first and better != worse:
            conflicts.append(index)
    opposed = {(keys[index], chosen[index], rejected[index]) for index in conflicts}
    conflicts += [index for index in duplicates if (keys[index], chosen[index], rejected[index]) in opposed]
    return {"duplicate": duplicates, "conflict": conflicts}


def lost(prompt: list[dict[str, str]], text: str) -> bool:
    """Whether the rendered prompt lacks a system turn's words."""
    return any(turn["role"] == "system" and turn["content"].strip() not in text for turn in prompt)


def unfinished(answer: str) -> bool:
    """Whether a response longer than one line ends in a letter or a comma: then it was probably truncated."""
    text = answer.rstrip()
    return len(text) > 80 and (text[-1].isalpha() or text[-1] in ",-(")


def near_duplicates(texts: Sequence[str], threshold: float = 0.9) -> list[int]:
    """Return the texts whose word trigrams have an (estimated) Jaccard similarity of `threshold` to an earlier text's.

    MinHash with locality-sensitive hashing, from datasketch; the estimate may be wrong near the threshold.
    """
    from datasketch import MinHash, MinHashLSH

    index, found = MinHashLSH(threshold=threshold, num_perm=128), []
    shingles = ([" ".join(gram).encode() for gram in ngrams(words(text), 3)] for text in texts)
    for number, sketch in enumerate(MinHash.generator(shingles, num_perm=128)):
        if index.query(sketch):
            found.append(number)
        else:
            index.insert(number, sketch)
    return found


def words(text: str) -> list[str]:
    """Return a text's words in lower case, without punctuation."""
    return WORD.findall(text.lower())


def ngrams(tokens: list[str], size: int) -> set[tuple[str, ...]]:
    """Return a text's n-grams of `size` words; a shorter text is one n-gram."""
    return {tuple(tokens[place : place + size]) for place in range(max(1, len(tokens) - size + 1))}


class Evaluated:
    """The prompts of evaluation sets, to look for in training prompts."""

    def __init__(self, prompts: Iterable[str]) -> None:
        self.sizes: dict[int, int] = {}
        self.holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, prompt in enumerate(prompts):
            grams = ngrams(words(prompt), NGRAM)
            self.sizes[number] = len(grams)
            for gram in grams:
                self.holders[gram].append(number)

    def has(self, prompt: str) -> bool:
        """Whether a training prompt contains half of an evaluation prompt's 8-grams, or equals a shorter one."""
        shared: dict[int, int] = defaultdict(int)
        for gram in ngrams(words(prompt), NGRAM):
            for number in self.holders.get(gram, ()):
                shared[number] += 1
        return any(count >= OVERLAP * self.sizes[number] for number, count in shared.items())


def evaluation_prompts(paths: list[str]) -> list[str]:
    """Return the prompts of JSON or JSONL files in the format of IFEval, AlpacaEval or MT-Bench.

    Their columns are `prompt`, `instruction` and `turns` (a list of the user's turns).

    Raises:
        UserError: a file is missing, cannot be read, or has none of these columns.
    """
    found = []
    for path in paths:
        try:
            rows = read_json_rows(expanded(path))
        except UserError as error:
            raise UserError(f"dataset.evaluation_prompts: {error}") from None
        for row in rows:
            texts = [row[key] for key in ("prompt", "instruction", "turns") if isinstance(row, dict) and row.get(key)]
            if not texts:
                raise UserError(f"{path} has a row without `prompt`, `instruction` or `turns`: fix evaluation_prompts")
            found += texts[0] if isinstance(texts[0], list) else [str(texts[0])]
    return found


def wanted(policies: Policies, finding: str) -> bool:
    """Whether to run a slow search: rows with the finding would not simply be kept."""
    return getattr(policies, finding) != KEEP
