"""What `make` does once after an install, so that the first command starts as quickly as the next.

Without the libraries' bytecode every start compiles thousands of modules, for half a minute. uv leaves that to Python,
which writes none where PYTHONDONTWRITEBYTECODE is set, as in many images: `make` unsets it for this.
"""

from importlib import import_module

from launch.config.trl_options import trl_options
from recipes.methods import METHODS


def main() -> None:
    """Read TRL's options into their file, and import what every stage imports."""
    trl_options()
    for method in METHODS.values():
        import_module(method.module)


if __name__ == "__main__":
    main()
