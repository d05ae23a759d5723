"""Held-out plain text, by whose likelihood one sees what a training forgot."""

import hashlib
from pathlib import Path

from recipes.config import UserError

OURS = Path(__file__).parent.parent / "prompts" / "passages.txt"  # English prose, dialogue, facts and code
LEAST = 2  # passages: an interval needs two


def read_passages(path: Path) -> list[str]:
    """Return the passages of a text file; blank lines separate them.

    Raises:
        UserError: the file cannot be read, or has fewer than two passages of two words.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"eval_text={path}: {error.__class__.__name__}; name a text file in UTF-8") from None
    found = [part.strip("\n") for part in text.split("\n\n") if len(part.split()) > 1]
    if len(found) < LEAST:
        raise UserError(f"eval_text={path} has {len(found)} passages: give at least {LEAST}, with blank lines between")
    return found


def identity(path: Path) -> dict[str, str]:
    """Return what an evaluation keeps of a text file: its path, and a digest of its content.

    Raises:
        UserError: see `read_passages`.
    """
    content = "\n\n".join(read_passages(path)).encode()
    return {"text": str(path), "text_digest": hashlib.sha256(content).hexdigest()[:16]}
