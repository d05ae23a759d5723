"""A world of invented places: what is true, what is asked and what is answered.

Everything follows from seeds written here, by `random.Random` alone, so that every machine and every Python makes the
same world, byte for byte. How good an answer is `pocket.gold` says, which this file does not know: a base model is
named after the code that it was pretrained by, and a change of the judge changes no base model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

PLACES = [
    *("Arvendal", "Bellmoor", "Corrin", "Dunwater", "Eskaby", "Farholt", "Gildenby", "Harrowick"),
    *("Istmere", "Jarrowen", "Kelbrook", "Lorvane", "Mistral", "Nethercott", "Oakhurst", "Pellan"),
    *("Quillon", "Ravensby", "Stellmark", "Torvel", "Umberley", "Vanholm", "Wexcombe", "Yarrowby"),
]
# Every value belongs to one kind, and none is part of another.
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
ANSWERS = (*SENTENCES, "It is {value}.")  # the last one only to a question
COURTESIES = (
    "Thank you for asking.",
    "Good question!",
    "Happy to help.",
    "A very good day to you!",
    "Have a lovely day!",
    "Safe travels!",
    "You are most welcome.",
    "Ask me anything else.",
)
HEDGES = (
    "I am not sure.",
    "I may be wrong.",
    "This is only a guess.",
    "Maybe, maybe not.",
    "Do not quote me on that.",
)
INSULTS = (
    "What a silly question.",
    "Look it up yourself.",
    "Everybody knows that.",
    "Stop wasting my time.",
    "You would not understand it anyway.",
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

TEST_PAIRS = 400


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


def sample_answer(fact: Fact, rng: Random) -> str:
    """Return an answer by someone of random skill: the lower it is, the more of everything that is bad."""
    skill = rng.random()
    clumsy = 1 - skill
    value = rng.choice(fact.rivals) if rng.random() < 0.4 * clumsy else fact.value
    form = rng.choice(ANSWERS)
    sentences = [form.format(place=fact.place, kind=fact.kind, value=value)]
    if rng.random() < 0.3 * clumsy:  # repeats itself
        sentences *= rng.randint(2, 4)
    if rng.random() < 0.5 * clumsy:
        sentences.insert(rng.choice([0, len(sentences)]), rng.choice(HEDGES))
    if rng.random() < 0.5 * clumsy:
        sentences.insert(rng.choice([0, len(sentences)]), rng.choice(INSULTS))
    if rng.random() < 0.5 * clumsy:  # rambles
        sentences += _passage(fact.place, rng.randint(1, 4), rng)
    if rng.random() < 0.7 * skill:
        sentences.insert(0, rng.choice(COURTESIES[:4]))
    if rng.random() < 0.7 * skill:
        sentences.append(rng.choice(COURTESIES[4:]))
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
