"""People judge blind, by keys, on this machine alone; each vote is kept at once, and counts in the table."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from ballots import judge_all, judging
from browser import browser
from comparison import EVIL, PROMPTS, SEEDS, make_session
from door import QUIET, ROOT

from eval.pages.people import Server
from eval.people import Judging, Options, main
from eval.results.table import rows_of
from recipes.config import UserError, read_json, write_json

HOSTILE = f"</p></section></form>{{{{ 7 * 7 }}}} {EVIL} \u202e\ud800 {'long' * 200}"


@pytest.fixture
def session(tmp_path: Path) -> Path:
    return make_session(tmp_path)


@contextmanager
def served(found: Judging) -> Iterator[Server]:
    """Serve it on a free port."""
    with Server(0, found.page, found.choose) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(url: str, form: dict[str, str] | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
    """Send a request as a browser does; return status, body and headers."""
    place = urlsplit(url)
    connection = HTTPConnection(place.netloc, timeout=60)
    body = None if form is None else urlencode(form)
    headers = {"Host": place.netloc, "Content-Type": "application/x-www-form-urlencoded"} | headers
    connection.request("GET" if body is None else "POST", place.path, body, headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), dict(answer.headers)
    connection.close()
    return found


def shown(page: str) -> str:
    """The pair that a page shows; empty at the end."""
    (found,) = re.findall(r'name="pair" value="(\w*)"', page)
    return found


def lines(session: Path, name: str = "ada") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (session / "votes" / f"{name}.jsonl").read_text().splitlines() if line]


def test_votes_are_kept_at_once_undone_by_a_further_line_and_gone_on_with(session: Path) -> None:
    with judging(session, prompts=3) as found, served(found) as server:
        first = shown(ask(server.url)[1])
        assert ask(server.url, {"pair": first, "choice": "left"})[0] == 303
        kept = lines(session)
        page = ask(server.url)[1]
        second = shown(page)
        assert second != first and "1 of 6 judged" in page
        ask(server.url, {"pair": first, "choice": "right"})  # a second click, on a page that is gone
        ask(server.url, {"pair": second, "choice": "nonsense"})
        assert lines(session) == kept and [vote["pair"] for vote in kept] == [first]
        ask(server.url, {"pair": second, "choice": "skip"})
        third = shown(ask(server.url)[1])
        ask(server.url, {"pair": third, "choice": "undo"})
        assert shown(ask(server.url)[1]) == second
        assert [vote["choice"] for vote in lines(session)] == ["left", "skip", "undo"]
        pair = found.pairs[first]
    vote = lines(session)[0]
    assert vote.keys() == {"judge", "pair", "prompt", "seed", "left", "right", "choice", "time"}
    assert (vote["judge"], vote["seed"]) == ("ada", pair.seed) and {vote["left"], vote["right"]} == {*pair.names}
    with judging(session, prompts=3) as again:
        assert again.current and again.current.id == second, "the same order, from the first pair without a vote"
    with judging(session, prompts=5) as more:
        assert {vote.pair for vote in more.votes} == {first} and len(more.pairs) == 10, (
            "more prompts keep the first ones"
        )


def test_a_torn_line_is_no_vote_and_the_next_one_is_whole(session: Path) -> None:
    with judging(session) as found:
        judge_all(found, lambda pair: "dpo")
    path = session / "votes" / "ada.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with judging(session) as found:
        assert len(found.votes) == len(found.pairs) - 1 == PROMPTS * len(SEEDS) - 1
        judge_all(found, lambda pair: "tie")
    with judging(session) as found:
        assert found.current is None and [vote.choice for vote in found.votes][-1] == "tie"
    path.write_bytes(whole + b'{"id": 1}\n')
    with pytest.raises(UserError, match="line 61 is no vote of this project"):
        rows_of(session)


def test_a_vote_that_cannot_be_written_is_not_counted(session: Path) -> None:
    with judging(session) as found, served(found) as server:
        path, found.kept.path = found.kept.path, Path("/dev/full")
        pair = shown(ask(server.url)[1])
        status, said, _ = ask(server.url, {"pair": pair, "choice": "left"})
        assert status == 500 and "not saved: No space left on device" in said
        assert shown(ask(server.url)[1]) == pair
        found.kept.path = path
        ask(server.url, {"pair": pair, "choice": "left"})
        assert len(lines(session)) == 1


def test_only_this_machine_with_the_token_and_small_forms_get_in(session: Path) -> None:
    with judging(session) as found, served(found) as server:
        assert server.server_address[0] == "127.0.0.1"
        form, port = {"pair": shown(ask(server.url)[1]), "choice": "left"}, server.server_address[1]
        assert ask(server.url, Host=f"localhost:{port}")[0] == 200
        for url, host in (
            (server.url, f"evil.example:{port}"),
            (server.url, ""),
            (server.url[:-2] + "/", f"127.0.0.1:{port}"),
            (f"http://127.0.0.1:{port}/", f"127.0.0.1:{port}"),
            (f"{server.url}é", f"127.0.0.1:{port}"),
        ):
            for sent in (None, form):
                status, said, _ = ask(url.replace("é", "%C3%A9"), sent, Host=host)
                assert status == 403 and server.path not in said
        assert ask(server.url, form | {"more": "x" * 1000})[0] == 400
        assert ask(server.url, form, **{"Content-Length": "-1"})[0] == 400
        assert not found.votes and not lines(session)


def test_the_page_is_blind_and_responses_are_text(session: Path) -> None:
    for path in session.parent.glob("seed-*/*/eval/*.json"):
        result = read_json(path)
        for place, response in enumerate(result["sampled"]):
            response["text"] = f"{place} {HOSTILE}" if "orpo" in str(path) else ""
        path.write_text(json.dumps(result))  # with the lone surrogate, which `write_json` takes too
    with judging(session, prompts=1) as found, served(found) as server:
        while found.current:
            status, page, headers = ask(server.url)
            assert status == 200 and not re.search("dpo|orpo|sft", page, re.IGNORECASE)
            assert page.count("<script") == 1 and "<img" not in page and page.count("</form>") == 1
            assert "{{ 7 * 7 }}" in page and "<p></p>" in page
            (nonce,) = re.findall(r'<script nonce="([^"]+)"', page)
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'") and f"script-src 'nonce-{nonce}'" in policy
            assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
            ask(server.url, {"pair": shown(page), "choice": "tie"})


def test_only_the_pairs_that_were_asked_for_are_judged(session: Path) -> None:
    every = {("sft", "dpo"), ("sft", "orpo"), ("dpo", "orpo")}
    with judging(session, pipelines=None) as found:
        assert {pair.names for pair in found.pairs.values()} == every
    for path in session.glob("*/job.json"):
        write_json(path, read_json(path) | {"compare_with": "dpo"})
    with judging(session, pipelines=None) as found:
        assert {pair.names for pair in found.pairs.values()} == every - {("sft", "orpo")}
    said = "pipelines=sft,orpo: this session compares each with dpo: name dpo too"
    with pytest.raises(UserError, match=said):
        main([str(session)], Options(pipelines="sft,orpo"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"name": "../ada"}, "name=../ada: use letters, digits"),
        ({"pipelines": "dpo,opro"}, "there is no opro; there are sft, dpo, orpo"),
        ({"pipelines": "dpo"}, "two of sft, dpo, orpo are needed"),
        ({"prompts": 0}, "prompts=0: at least 1 is needed"),
        ({"port": 70000}, "port=70000 cannot be used"),
        ({"name": "ada", "port": 0}, "ada is judging already, into"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_served(session: Path, words: dict[str, Any], said: str) -> None:
    with judging(session, "ada"), pytest.raises(UserError, match=re.escape(said)):
        main([str(session)], Options(**words))


def test_ctrl_c_ends_it_and_says_where_the_votes_are(session: Path) -> None:
    words = [sys.executable, "-m", "eval.people", str(session), "name=ada", "port=0", "prompts=2"]
    process = subprocess.Popen(
        words, cwd=ROOT, env={**os.environ, **QUIET, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    printed = ""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+/\S+", printed)):
        printed += (line := process.stdout.readline())
        assert line, printed
    ask(found[0], {"pair": shown(ask(found[0])[1]), "choice": "left"})
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate()
    assert process.returncode == 0 and f"1 of 12 pairs judged: {session}/votes/ada.jsonl" in rest
    assert len(lines(session)) == 1


def test_a_phone_wide_page_is_judged_by_keys_alone(session: Path, tmp_path: Path) -> None:
    for path in session.parent.glob("seed-*/*/eval/*.json"):
        result = read_json(path)
        for response in result["sampled"]:
            response["text"] += HOSTILE
        path.write_text(json.dumps(result))
    with judging(session, prompts=2) as found, served(found) as server, browser(tmp_path / "profile") as page:
        page.resize(390, 844)
        page.call("Page.navigate", url=server.url)
        page.wait_for("0 of 4 judged")
        assert EVIL in page.value("document.querySelector('.answer p').textContent")
        assert page.value("document.documentElement.scrollWidth") == 390, "nothing to scroll sideways"
        visible = "[...document.querySelectorAll('button')].every(b => b.getBoundingClientRect().bottom <= innerHeight)"
        assert page.value(visible), "the buttons stay in sight below a long response"
        keys = {"ArrowLeft": 1, "u": 0, "ArrowRight": 1, "x": 1, "ArrowDown": 2, "t": 3, "s": 4}
        for name, done in keys.items():
            page.press(name)
            page.wait_for(f"{done} of 4 judged")
        page.wait_for("All pairs are judged")
        assert page.value("document.documentElement.scrollWidth") == 390
        assert page.complaints == []
    assert [vote["choice"] for vote in lines(session)] == ["left", "undo", "right", "tie", "tie", "skip"]
