"""What the prompts are about: everyday things, each by a noun that a response on the topic will hold."""

import re

TRAINED = (
    *("rivers", "bread", "bicycles", "cats", "winter", "gardens", "trains", "tea", "bees", "maps", "sleep", "bridges"),
    *("chess", "mirrors", "apples", "clouds", "pencils", "horses", "markets", "lamps", "islands", "soup", "letters"),
    *("boats", "forests", "shoes", "birds", "clocks", "rain", "kitchens", "stars", "wool", "doors", "mountains"),
    *("cheese", "violins", "roads", "snow", "books", "candles", "goats", "windows", "salt", "museums", "kites"),
    *("farmers", "autumn", "ladders"),
)
UNSEEN = (  # of the test split alone
    *("dogs", "coffee", "oceans", "chairs", "schools", "honey", "castles", "spring", "drums", "umbrellas", "fire"),
    *("potatoes", "teachers", "hats", "lakes", "owls", "paper", "harbors", "songs", "frogs", "deserts", "spoons"),
    *("neighbors", "gloves"),
)


def names(text: str, topic: str) -> bool:
    """Whether a text names a topic, in the singular or the plural, in whatever case: `tea` is not in `teachers`."""
    stem = topic.removesuffix("s") if topic != "chess" else topic
    stem = stem.removesuffix("e") if topic.endswith("oes") else stem
    return bool(re.search(rf"\b{stem}(e?s)?\b", text, re.IGNORECASE))
