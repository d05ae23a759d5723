"""The Hub: whether it is asked, and what our message makes of a library's error about a repository."""

import pytest
from hub_server import listening
from huggingface_hub import constants

from recipes.system.hub import reachable, reason


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("a: no such file\nTraceback\n  more", "a: no such file"),
        (
            "model.safetensors is truncated\nat 8",
            "model.safetensors is truncated",
        ),  # it is there, so nothing is lacking
        ("", "OSError"),
        ("\n", "OSError"),
    ],
)
def test_a_librarys_error_is_told_in_one_line(error: str, said: str) -> None:
    assert reason(OSError(error)) == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Pass `trust_remote_code=True` to\nallow it", "code of a model's repository is never run here"),
        ("No file named model.safetensors\nfound in x", "name a revision that has them, often model.model_revision="),
        ("x does not appear to have a file named model.safetensors", "or convert them where you trust them"),
    ],
)
def test_what_is_not_trusted_is_said_and_what_to_do(error: str, said: str) -> None:
    assert said in reason(OSError(error)) and "\n" not in reason(OSError(error))


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Nobody has asked the Hub yet, and what is found here holds for no other test."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    reachable.cache_clear()
    request.addfinalizer(reachable.cache_clear)


@pytest.mark.usefixtures("unasked")
def test_any_response_counts_and_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """This one responds that it does not know the request."""
    with listening() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        assert reachable()
    assert reachable() and not constants.HF_HUB_OFFLINE, "it is silent now, and was not asked again"


@pytest.mark.usefixtures("unasked")
def test_where_the_hub_is_silent_its_client_uses_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    assert not reachable() and constants.HF_HUB_OFFLINE


@pytest.mark.usefixtures("unasked")
def test_who_is_offline_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with listening() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        assert not reachable()
