"""What runs in containers and clouds: every command there is one of the Makefile's, and reaches the launcher."""

import re
import shlex
import subprocess
from pathlib import Path

import yaml
from door import ROOT

CLOUD = ROOT / "conf" / "cloud"
FENCE = re.compile(r"```bash\n(.*?)```", re.DOTALL)


def would_run(words: list[str]) -> str:
    """What `make` would run for these words."""
    command = ["make", "--no-print-directory", "--dry-run", "--assume-old=.venv/installed", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def docker() -> list[str]:
    """The Dockerfile's instructions."""
    return [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]


def test_the_image_installs_and_then_is_make() -> None:
    lines = docker()
    steps = [line.removeprefix("RUN ") for line in lines if line.startswith("RUN ")]
    assert steps[-1] == "WITH_CUDA=1 make environment" and "launch.install -r requirements.lock" in would_run(
        ["environment"]
    )
    assert 'ENTRYPOINT ["make"]' in lines and "COPY . ." in lines
    left_out = (ROOT / ".dockerignore").read_text().split()
    assert {"runs", ".venv*", ".git"} <= {*left_out}, "neither trained models nor this machine's packages"


def test_the_documented_container_runs_a_comparison() -> None:
    lines = "".join(FENCE.findall((ROOT / "docs" / "cloud.md").read_text())).splitlines()
    (words,) = (shlex.split(line) for line in lines if line.startswith("docker run "))
    assert "-m launch --multirun" in would_run(words[words.index("orpo") + 1 :])


def test_kubernetes_and_skypilot_start_the_comparison() -> None:
    _, job = yaml.safe_load_all((CLOUD / "kubernetes.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert "tuning=lora session=orpo" in would_run(container["args"])
    task = yaml.safe_load((CLOUD / "skypilot.yaml").read_text())
    run = task["run"]
    for name, value in task["envs"].items():
        run = run.replace(f"${name}", value)
    assert "runs=/orpo-runs tuning=lora" in would_run(shlex.split(run)[1:]) and list(task["file_mounts"]) == [
        "/orpo-runs"
    ]
    assert shlex.split(task["setup"]) == ["make", "environment"]


def test_modal_is_python_that_runs_make() -> None:
    text = (CLOUD / "modal_app.py").read_text()
    compile(text, "modal_app.py", "exec")
    assert 'subprocess.run(["make", *shlex.split(words)], cwd=ROOT, check=True)' in text
    assert Path(re.findall(r'from_dockerfile\("(.*?)"\)', text)[0]) == Path("Dockerfile")
