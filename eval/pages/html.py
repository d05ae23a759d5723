"""Pages that need nothing beside them, from the templates here and a package's own."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, values: dict[str, Any], folder: Path = TEMPLATES, escape: bool = True) -> str:
    """Return a template with its values, looked for in `folder` first; where it is a page, `escape` what is in them."""
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]), autoescape=escape, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(values)
