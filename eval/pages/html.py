"""Self-contained pages, from the templates here or a package's own."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, values: dict[str, Any], folder: Path = TEMPLATES, escape: bool = True) -> str:
    """Render a template, looked up in `folder` first; `escape` the values for an HTML page."""
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]), autoescape=escape, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(values)
