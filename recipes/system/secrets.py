"""Keep tokens and keys out of files and output: known values are replaced, whatever their origin."""

import os
import re
from pathlib import Path

NAMES = re.compile(r"(^|_)(TOKEN|(API)?KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS)$")
LEAST = 8  # characters; a shorter value might be a word
HIDDEN = "(hidden)"  # plain in YAML, JSON and HTML


def secrets() -> list[str]:
    """Return the secrets that this process knows, longest first: from the environment, and the Hub's stored token."""
    found = {value.strip() for name, value in os.environ.items() if NAMES.search(name.upper())}
    found.add(stored_token())
    return sorted((value for value in found if len(value) >= LEAST), key=len, reverse=True)


def stored_token() -> str:
    """Return the token that `hf auth login` stored, or nothing."""
    home = os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser()
    try:
        return Path(os.environ.get("HF_TOKEN_PATH") or Path(home, "token")).read_text().strip()
    except (OSError, ValueError):
        return ""


def redact(text: str) -> str:
    """Return `text` with every known secret replaced."""
    for secret in secrets():
        text = text.replace(secret, HIDDEN)
    return text


def without_password(address: str) -> str:
    """Return an address without user and password."""
    return re.sub(r"://[^/@]*@", f"://{HIDDEN}@", address)


def scrub(path: Path) -> None:
    """Replace every known secret in a log that libraries wrote."""
    known = [secret.encode() for secret in secrets()]
    try:
        text = path.read_bytes() if known else b""
        if any(secret in text for secret in known):
            for secret in known:
                text = text.replace(secret, HIDDEN.encode())
            path.write_bytes(text)
    except OSError:
        return  # no log, or no space
