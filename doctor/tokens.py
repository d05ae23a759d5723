"""A row token by token, with what each method trains marked by brackets and, on a terminal, by color."""

from typing import Any

from rich.console import Console
from rich.text import Text

from doctor.masks import Masked

# (likelihood, compared) -> brackets, color, meaning
MARKS = {
    (False, False): ("()", "dim", "context only"),
    (True, False): ("[]", "green", "trained by likelihood"),
    (False, True): ("{}", "yellow", "compared with the other response"),
    (True, True): ("«»", "bold cyan", "both"),
}
SPACES = str.maketrans({"\n": "↵", "\t": "→", "\r": "⏎"})


def legend() -> Text:
    """Return the meaning of the marks."""
    text = Text()
    for (start, end), style, meaning in MARKS.values():
        text.append(f"{start}{meaning}{end}", style).append("  ")
    return text.append("↵ end of line")


def show(sequences: list[Masked], tokenizer: Any, console: Console) -> None:
    """Print the sequences one after the other, each with its number of tokens of every kind."""
    console.print(legend(), soft_wrap=True)
    for sequence in sequences:
        flags = list(zip(sequence.likelihood, sequence.compared, strict=True))
        counts = ", ".join(f"{flags.count(mark)} {meaning}" for mark, (*_, meaning) in MARKS.items() if mark in flags)
        console.print(f"\n{sequence.name}: {len(flags)} tokens, {counts}", style="bold", markup=False, soft_wrap=True)
        text = Text(overflow="fold")
        for token, flag in zip(sequence.ids, flags, strict=True):
            (start, end), style, _ = MARKS[flag]
            text.append(f"{start}{spell(token, tokenizer)}{end}", style)
        console.print(text, soft_wrap=not console.is_terminal)


def spell(token: int, tokenizer: Any) -> str:
    """Return a token as text, with visible blanks and line ends; part of a character as spelled in the vocabulary."""
    piece = tokenizer.convert_ids_to_tokens(token)
    text = tokenizer.decode([token])
    if not text or "\ufffd" in text:
        text = piece
    if piece.startswith("▁") and not text.startswith(" "):  # SentencePiece drops a leading blank
        text = f" {text.removeprefix('▁')}"
    return text.translate(SPACES)
