"""What `make` does once after an install, so that the first command starts as quickly as the next.

Without the libraries' bytecode every start compiles thousands of modules, for half a minute. uv leaves that to Python,
which writes none where PYTHONDONTWRITEBYTECODE is set, as in many images: `make` unsets it for this.
"""

from importlib import import_module

from launch.config.trl_options import trl_options
from recipes.methods import METHODS

COMMANDS = ("launch.train", "launch.plan", "launch.doctor", "eval.report")  # with what most commands import


def main() -> None:
    """Read TRL's options into their file, and import what the launcher, every stage and the evaluation import."""
    trl_options()
    for name in (*COMMANDS, *(method.module for method in METHODS.values())):
        import_module(name)


if __name__ == "__main__":
    main()
