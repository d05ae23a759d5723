"""Chromium without a window, driven by keys through its pipe of the DevTools protocol."""

import json
import os
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from door import wait_until

# The protocol's pipe is descriptors 3 and 4. Copies above both come first, since either may be one of the two given.
EXEC = """import fcntl, os, sys
copies = [fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3]]
os.dup2(copies[0], 3)
os.dup2(copies[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])"""
CODES = {"ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}


class Browser:
    """One page; `complaints` are what its console says: errors, and what its policy forbade."""

    def __init__(self, commands: int, answers: IO[bytes]) -> None:
        self.commands, self.answers, self.count = commands, answers, 0
        self.session: str | None = None
        self.complaints: list[str] = []
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; what comes meanwhile may be a complaint."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (found := self.read()).get("id") != self.count:
            if found.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
                self.complaints.append(json.dumps(found["params"]))
        assert "result" in found, found
        return found["result"]

    def read(self) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\0"):
            data += (byte := self.answers.read(1))
            assert byte, "Chromium has ended"
        return json.loads(data[:-1])

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is worth in the page; None while it is loading."""
        wrapped = f"document.readyState === 'complete' ? {expression} : null"
        return self.call("Runtime.evaluate", expression=wrapped, returnByValue=True)["result"].get("value")

    def press(self, name: str) -> None:
        code = CODES.get(name, ord(name[0].upper()))
        described = {"key": name, "windowsVirtualKeyCode": code} | ({} if name in CODES else {"text": name})
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **described)

    def wait_for(self, text: str) -> None:
        """Wait until the page shows a text."""
        wait_until(lambda: text in (self.value("document.body.innerText") or ""))

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def photograph(self, path: Path) -> None:
        path.write_bytes(b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium with a profile of its own; where there is none, the test is skipped."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    theirs, commands = os.pipe()
    events, ours = os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        [sys.executable, "-c", EXEC, str(theirs), str(ours), program, *options],
        pass_fds=(theirs, ours),
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.close(ours)
    with os.fdopen(events, "rb") as answers:
        try:
            yield Browser(commands, answers)
        finally:
            os.close(commands)
            process.wait()
