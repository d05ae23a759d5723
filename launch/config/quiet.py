"""Keep libraries from talking over the launcher's own lines; a stage's log keeps all they say."""

import logging


def quieten() -> None:
    """Silence what bitsandbytes says at import about a GPU kernel that nobody asked for."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
