"""Modal, a GPU by the second: `modal run conf/cloud/modal_app.py --words 'compare MODEL=phi-3-mini'`.

Runs are kept in the volume `orpo-runs` (`modal volume get orpo-runs …` fetches them); the same command resumes.
"""

import shlex
import subprocess

import modal

ROOT = "/orpo"
HOURS = 24
app = modal.App("orpo")
image = modal.Image.from_dockerfile("Dockerfile").entrypoint([])
volume = modal.Volume.from_name("orpo-runs", create_if_missing=True)


@app.function(image=image, gpu="H100", timeout=HOURS * 3600, volumes={f"{ROOT}/runs": volume})
def make(words: str) -> None:
    """Run one of the Makefile's targets."""
    subprocess.run(["make", *shlex.split(words)], cwd=ROOT, check=True)


@app.local_entrypoint()
def main(words: str = "compare") -> None:
    """Run it there, and show its output here."""
    make.remote(words)
