"""An endpoint on the way to which everything fails once: all is answered, once, and the key is in no file."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eval import alpaca, diversity, mt_bench
from eval.answers.endpoint import Endpoint, host_class
from eval.answers.generate import Sampling, answer
from eval.answers.load import load_renderer, prompt_ids
from eval.commands.cli import read_words
from recipes.config import UserError

KEY = "sk-very-secret-0123456789"
DIALOGUES: list[Any] = [[{"role": "user", "content": f"Question {number}?"}] for number in range(4)]


class Server(ThreadingHTTPServer):
    """What fails in turn for each request, and what was asked."""

    troubles: tuple[str, ...] = ()
    refused = 0
    tried: Counter[str]
    bodies: list[dict[str, Any]]
    keys: set[str | None]
    under_way = most = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        with lock:
            attempt, self.server.tried[text] = self.server.tried[text], self.server.tried[text] + 1
            self.server.keys.add(self.headers["authorization"])
            self.server.under_way += 1
            self.server.most = max(self.server.most, self.server.under_way)
        try:
            self.respond(json.loads(text), self.server.troubles[attempt : attempt + 1])
        finally:
            with lock:
                self.server.under_way -= 1

    def respond(self, body: dict[str, Any], trouble: tuple[str, ...]) -> None:
        if self.server.refused:
            return self.send(self.server.refused, json.dumps({"error": {"message": f"no, {KEY} is wrong"}}).encode())
        if trouble == ("drop",):
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if trouble == ("limit",):
            return self.send(429, b"slower", {"retry-after-ms": "10"})
        if trouble == ("busy",):
            return self.send(503, b"busy", {"retry-after-ms": "10"})
        if trouble == ("garbage",):
            return self.send(200, b'{"choices": [')
        if trouble == ("empty",):
            return self.send(200, b'{"choices": []}')
        with lock:
            self.server.bodies.append(body)
        said = f"{len(body['prompt'])} ids" if "prompt" in body else body["messages"][-1]["content"].upper()
        choice = {"text": said} if "prompt" in body else {"message": {"role": "assistant", "content": said}}
        choice |= {"finish_reason": "length" if "7" in said else "stop"}
        self.send(200, json.dumps({"choices": [choice], "usage": {"completion_tokens": 5}}).encode())

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "content-type": "application/json",
            "content-length": str(len(content)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


lock = threading.Lock()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    found = Server(("127.0.0.1", 0), Handler)
    found.tried, found.bodies, found.keys = Counter(), [], set()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/v1"


def test_all_is_answered_once_whatever_fails_on_the_way(untuned: Path, server: Server) -> None:
    server.troubles = ("drop", "limit", "garbage", "busy", "empty")
    endpoint = Endpoint(url(server), "tiny", concurrency=3)
    counts: list[int] = []
    found = answer(untuned, DIALOGUES, Sampling(9, 1.0, samples=2), counts.append, endpoint)
    prompts = prompt_ids(load_renderer(untuned), DIALOGUES)
    assert [[one.text for one in row] for row in found] == [[f"{len(ids)} ids"] * 2 for ids in prompts]
    assert all(one.stopped == ("7" not in one.text) and one.tokens == 5 for row in found for one in row)
    assert len(server.bodies) == 8 and set(server.tried.values()) == {6} and server.most <= 3
    assert sorted(map(str, (body["prompt"] for body in server.bodies))) == sorted(map(str, prompts * 2))
    assert {body["max_tokens"] for body in server.bodies} == {9}
    assert {tuple(body["stop_token_ids"]) for body in server.bodies} == {(2,)}
    assert answer(untuned, DIALOGUES, Sampling(9, 1.0, samples=2), counts.append, endpoint) == found
    assert len(server.bodies) == 8 and counts == [0] + [1] * 8 + [8], "what is kept is not asked again"
    assert server.keys == {f"Bearer {KEY}"}


def test_each_prompt_and_sample_has_a_seed_of_its_own(untuned: Path, server: Server) -> None:
    """And the same again whenever it is asked, beside whatever else: a model of another name has no answers yet."""
    seeds: list[dict[str, set[int]]] = []
    for name, dialogues, seed in (("a", DIALOGUES, 0), ("b", DIALOGUES[::-1], 0), ("c", DIALOGUES, 1)):
        server.bodies.clear()
        answer(untuned, dialogues, Sampling(9, 1.0, 2, seed), lambda count: None, Endpoint(url(server), name))
        seeds.append({str(body["prompt"]): set() for body in server.bodies})
        for body in server.bodies:
            seeds[-1][str(body["prompt"])].add(body["seed"])
    drawn = [seed for one in seeds for prompts in one.values() for seed in prompts]
    assert seeds[0] == seeds[1] and len(drawn) == 3 * 8 and len({*drawn}) == 2 * 8
    assert all(0 <= seed < 2**31 for seed in drawn)


def test_a_suite_asks_an_endpoint_and_keeps_the_key_to_itself(
    untuned: Path, tiny_model: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.troubles = ("limit",)
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps([{"instruction": f"{number}?"} for number in range(3)]))
    words = [str(untuned), f"questions={questions}", f"embedder={tiny_model}", "samples=2"]
    words += [f"endpoint={url(server)}", "served=x", "chat=true"]
    diversity.main(*read_words(words, diversity.Options))
    printed = "".join(capsys.readouterr())
    assert server.bodies[0]["messages"][0]["role"] == "user" and len(server.bodies) == 6
    assert KEY not in printed and "per input" in printed
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "answers.jsonl" for path in files)
    assert not any(KEY.encode() in path.read_bytes() for path in files)
    (result,) = (untuned / "eval").glob("diversity-*.json")
    assert json.loads(result.read_text())["within"] == pytest.approx([1.0] * 3), "this server repeats itself"


def test_benchmarks_let_an_endpoint_answer_for_a_stage(untuned: Path, server: Server) -> None:
    """Both turns of MT-Bench, the second after the first; AlpacaEval's instructions once, and not again."""
    named = {"endpoint": url(server), "served": "x", "chat": True}
    question = {"question_id": 1, "category": "math", "turns": ["two?", "and three?"]}
    turns = mt_bench.answer_turns(untuned, [question], mt_bench.Options(**named))
    assert json.loads(turns.read_text())["choices"][0]["turns"] == ["TWO?", "AND THREE?"]
    said = [[message["content"] for message in body["messages"]] for body in server.bodies]
    assert said == [["two?"], ["two?", "TWO?", "and three?"]]
    options = alpaca.Options(**named)
    file = alpaca.answer(untuned, ["yes"], options)
    assert json.loads(file.read_text())[0]["output"] == "YES" and alpaca.answer(untuned, ["yes"], options) == file
    assert len(server.bodies) == 3 and alpaca.Options().elsewhere() is None


REFUSALS = [
    (401, r"\$OPENAI_API_KEY"),
    (400, r"no, \*\*\* is wrong"),
    (500, "Error code: 500"),
]


@pytest.mark.parametrize(("status", "said"), REFUSALS)
def test_what_cannot_succeed_is_one_line_without_the_key(untuned: Path, server: Server, status: int, said: str) -> None:
    server.refused = status
    endpoint = Endpoint(url(server), "x", attempts=2)
    with pytest.raises(UserError, match=said) as error:
        answer(untuned, DIALOGUES, Sampling(9, 0.0), lambda count: None, endpoint)
    assert KEY not in str(error.value) and "\n" not in str(error.value)


def test_addresses_that_cannot_be_are_refused() -> None:
    for address, said in {
        "localhost:8000": "give the full address",
        "http://me:secret@host/v1": "must not contain a password",  # pragma: allowlist secret
    }.items():
        with pytest.raises(UserError, match=said):
            Endpoint(address)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://localhost:8000/v1", "this machine"),
        ("http://127.0.0.1/v1", "this machine"),
        ("http://[::1]:80/v1", "this machine"),
        ("http://10.1.2.3/v1", "private network"),
        ("http://gpu7:8000/v1", "private network"),
        ("https://api.openai.com/v1", "api.openai.com"),
        ("https://judge.example.com/v1", "public host"),
    ],
)
def test_a_host_is_named_by_its_kind(url: str, kind: str) -> None:
    assert host_class(url) == kind
