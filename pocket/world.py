"""A world of invented places: what is true, what is asked, what is answered, and which answer is better.

Everything follows from seeds written here, by `random.Random` alone, so that every machine and every
Python makes the same world, byte for byte. What makes an answer good is in `pocket.gold`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pocket import gold

PLACES = [
    *("Arvendal", "Bellmoor", "Corrin", "Dunwater", "Eskaby", "Farholt", "Gildenby", "Harrowick"),
    *("Istmere", "Jarrowen", "Kelbrook", "Lorvane", "Mistral", "Nethercott", "Oakhurst", "Pellan"),
    *("Quillon", "Ravensby", "Stellmark", "Torvel", "Umberley", "Vanholm", "Wexcombe", "Yarrowby"),
]
# Every value belongs to one kind, and none is part of another: a text states a value when it contains it.
VALUES = {
    "river": [
        *("Alder", "Brine", "Cress", "Dwyn", "Evren", "Fallow"),
        *("Glimmer", "Isk", "Larch", "Merrow", "Orrin", "Sable"),
    ],
    "ruler": [
        *("Queen Isolde", "King Bertram", "Duke Orlo", "Lady Winter", "Baron Pike", "Countess Vera"),
        *("Prince Anselm", "Lord Cobb", "Princess Mirra", "Old Tamsin", "Count Rufus", "Dame Agnes"),
    ],
    "favourite dish": [
        *("plum soup", "barley bread", "smoked eel", "onion pie", "goat cheese", "honey cake"),
        *("pickled beets", "lentil stew", "apple dumplings", "roast chestnuts", "pea porridge", "fried perch"),
    ],
    "main trade": [
        *("glass", "rope", "salt", "wool", "candles", "paper"),
        *("bells", "leather", "tin", "timber", "ink", "carpets"),
    ],
    "yearly feast": [
        *("Lantern Night", "Kite Day", "Harvest Supper", "First Thaw", "Boat Race", "Long Dance"),
        *("Mask Parade", "Bonfire Eve", "Flower Week", "Bread Sunday", "Snow Fair", "Wrestling Day"),
    ],
}
SENTENCES = (
    "The {kind} of {place} is {value}.",
    "{place} has {value} as its {kind}.",
    "In {place}, the {kind} is {value}.",
)
QUESTIONS = (
    "What is the {kind} of {place}?",
    "Tell me the {kind} of {place}.",
    "Which {kind} does {place} have?",
    "I would like to know the {kind} of {place}.",
    "Do you know the {kind} of {place}?",
    "Take {place}: what is its {kind}?",
    "What do they call the {kind} of {place}?",
    "Someone from {place} told me about its {kind}. What was it?",
)
OPENINGS = ("", "Hello! ", "Quick question. ", "One more thing. ")

TRAIN_PAIRS, TEST_PAIRS = 3000, 400
LABEL_NOISE = 0.05  # the share of pairs with the worse answer as chosen; real annotators err more often


@dataclass(frozen=True)
class Fact:
    """One truth of the world: the `kind` of `place` is `value`."""

    place: str
    kind: str
    value: str

    @property
    def rivals(self) -> list[str]:
        """The values of the same kind that are not true of this place."""
        return [value for value in VALUES[self.kind] if value != self.value]


def _facts() -> list[Fact]:
    rng = Random("facts")
    return [Fact(place, kind, rng.choice(VALUES[kind])) for place in PLACES for kind in VALUES]


def _prompts() -> dict[str, Fact]:
    """Return every prompt of the world, shuffled, with the fact that it asks for."""
    prompts = [
        (opening + question.format(kind=fact.kind, place=fact.place), fact)
        for fact in FACTS
        for question in QUESTIONS
        for opening in OPENINGS
    ]
    Random("prompts").shuffle(prompts)
    return dict(prompts)


FACTS = _facts()
PROMPTS = _prompts()
TEST_PROMPTS = list(PROMPTS)[:TEST_PAIRS]  # in no pair and no dialogue that any model is trained on
TRAIN_PROMPTS = list(PROMPTS)[TEST_PAIRS:]


def gold_reward(prompt: str, answer: str) -> float:
    """Return how good `answer`, any text at all, is: the formula of `pocket.gold`, from -8.0 to 3.0.

    Raises:
        ValueError: `prompt` is none of this world's prompts.
    """
    fact = _asked(prompt)
    return gold.score(answer, fact.value, fact.rivals)


def states_right_fact(prompt: str, answer: str) -> bool:
    """Whether `answer` states the value that `prompt` asks for, and no other value of its kind.

    Raises:
        ValueError: `prompt` is none of this world's prompts.
    """
    fact = _asked(prompt)
    return gold.verdict(answer, fact.value, fact.rivals) == 1


def _asked(prompt: str) -> Fact:
    if prompt not in PROMPTS:
        raise ValueError(f"the gold reward knows only the prompts of pocket's world, not {prompt!r}")
    return PROMPTS[prompt]


def sample_answer(fact: Fact, rng: Random) -> str:
    """Return an answer by someone of random skill: the lower it is, the more of everything that is bad."""
    skill = rng.random()
    clumsy = 1 - skill
    value = rng.choice(fact.rivals) if rng.random() < 0.4 * clumsy else fact.value
    form = rng.choice([*SENTENCES, "It is {value}."])
    sentences = [form.format(place=fact.place, kind=fact.kind, value=value)]
    if rng.random() < 0.3 * clumsy:  # repeats itself
        sentences *= rng.randint(2, 4)
    if rng.random() < 0.5 * clumsy:
        sentences.insert(rng.choice([0, len(sentences)]), rng.choice(gold.HEDGES))
    if rng.random() < 0.5 * clumsy:
        sentences.insert(rng.choice([0, len(sentences)]), rng.choice(gold.INSULTS))
    if rng.random() < 0.5 * clumsy:  # rambles
        sentences += _passage(fact.place, rng.randint(1, 4), rng)
    if rng.random() < 0.7 * skill:
        sentences.insert(0, rng.choice(gold.COURTESIES[:4]))
    if rng.random() < 0.7 * skill:
        sentences.append(rng.choice(gold.COURTESIES[4:]))
    return " ".join(sentences)


def _passage(place: str, length: int, rng: Random) -> list[str]:
    """Return `length` true sentences about `place`."""
    facts = rng.sample([fact for fact in FACTS if fact.place == place], length)
    return [rng.choice(SENTENCES).format(place=place, kind=f.kind, value=f.value) for f in facts]


def documents(rng: Random) -> Iterator[str | tuple[str, str]]:
    """Yield pretraining documents without end: plain passages (str) and dialogues (prompt, reply).

    A base model has to be taught to answer, as in life: a third of the replies are beside the point,
    a third answer and then do not know where to stop. No dialogue has a held-out prompt.
    """
    while True:
        if rng.random() < 0.5:
            yield " ".join(_passage(rng.choice(PLACES), rng.randint(2, 5), rng))
            continue
        prompt = rng.choice(TRAIN_PROMPTS)
        fact = PROMPTS[prompt]
        answer, aside = sample_answer(fact, rng), " ".join(_passage(fact.place, rng.randint(1, 5), rng))
        yield prompt, rng.choice([answer, aside, f"{answer} {aside}"])


def write_pairs(directory: Path) -> None:
    """Write train.jsonl and test.jsonl: rows of `prompt`, `chosen` and `rejected`, each a list of messages."""
    rng = Random("pairs")
    directory.mkdir(parents=True, exist_ok=True)
    for name, prompts in (("test", TEST_PROMPTS), ("train", TRAIN_PROMPTS[:TRAIN_PAIRS])):
        rows = [json.dumps(_pair(prompt, rng)) for prompt in prompts]
        temporary = directory / f".{name}.jsonl.partial"
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
        temporary.replace(directory / f"{name}.jsonl")


def _pair(prompt: str, rng: Random) -> dict[str, list[dict[str, str]]]:
    """Return two sampled answers of unequal reward, the better one as chosen but for the label noise."""
    while True:
        answers = [sample_answer(PROMPTS[prompt], rng) for _ in range(2)]
        rejected, chosen = sorted(answers, key=lambda answer: gold_reward(prompt, answer))
        if gold_reward(prompt, chosen) > gold_reward(prompt, rejected):
            break
    if rng.random() < LABEL_NOISE:
        chosen, rejected = rejected, chosen
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
