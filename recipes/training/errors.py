"""What a stage's process tells the launcher when it fails: one line in error.txt, where the user can do something."""

import errno
import shutil
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from recipes.config import NEEDS_LESS, UserError, write_text

# from CUDA's allocator, PyTorch's on a CPU, cuBLAS
NO_MEMORY = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


def report(error: Exception, directory: Path) -> int:
    """Write an error down for the launcher; return the exit status, 2 if the user can fix it, else 1."""
    message = in_words(error, directory)
    if message:
        write_error(directory, message)
    with suppress(OSError):  # the log may be on a full disk too
        traceback.print_exception(error)
    return 2 if message else 1


def in_words(error: Exception, directory: Path) -> str | None:
    """Return the line for the user, if the error is one that the user can fix."""
    if isinstance(error, UserError):
        return str(error)
    no_space = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    # torch.save reports a full disk only as a failed write of its archive
    if no_space or ("PytorchStreamWriter" in str(error) and shutil.disk_usage(directory).free < 2**26):
        return f"no space left on the disk of {directory}: free some space and run again; it resumes"
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY):
        return NEEDS_LESS
    return None


def write_error(directory: Path, message: str) -> None:
    """Write the error for the launcher; a full disk may have no space even for that."""
    try:
        write_text(directory / "error.txt", message)
    except OSError:
        with suppress(OSError):
            print(f"error: {message}", file=sys.stderr, flush=True)
