"""Keep libraries' messages out of the launcher's output; a stage's log keeps them all."""

import logging


def quieten() -> None:
    """Silence bitsandbytes' warning at import about a GPU kernel that is not used."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
