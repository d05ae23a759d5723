"""Plain text of the embedded world that no model was pretrained on: what is left of pretraining shows on it."""

from itertools import islice
from random import Random

from pocket.world import PLACES, documents

COUNT = 48
SENTENCES = 5  # every fact of a place: so many orders and wordings that none is among the documents of pretraining


def passages() -> list[tuple[str, str]]:
    """Return true passages, each with the place that it is about."""
    plain = (text for text in documents(Random("held-out text")) if isinstance(text, str))
    long = (text for text in plain if text.count(".") == SENTENCES)
    return [(text, next(place for place in PLACES if place in text)) for text in islice(long, COUNT)]
