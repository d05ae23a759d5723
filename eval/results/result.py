"""What was measured of one model, and in which file."""

import hashlib
import json
from pathlib import Path
from typing import Any

Result = dict[str, Any]  # what `eval.results.measure` wrote for one model


def measured(directory: Path, settings: dict[str, Any], suite: str = "") -> Path:
    """Return the file for a model's measurements under these settings, for the table or for a suite."""
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return directory / "eval" / f"{suite and suite + '-'}{name}.json"
