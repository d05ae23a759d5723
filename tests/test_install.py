"""The environment's installation: uv looks where pip would."""

from importlib.util import cache_from_source, find_spec
from pathlib import Path

from launch.install import settings, translated

LISTED = """:env:.find-links='/wheels /more'
:env:.index-url='https://mine.example/simple'
global.cert='/etc/ca.crt'
global.extra-index-url='\\nhttps://a.example/simple\\nhttps://b.example/simple'
global.index-url='https://other.example/simple'
global.timeout='30'
install.constraint='/etc/limits.txt'
install.timeout='60'
freeze.timeout='90'
download.find-links='/nowhere'
"""


def test_uv_gets_pips_settings_in_pips_order_of_precedence() -> None:
    assert translated(settings(LISTED)) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_DEFAULT_INDEX": "https://mine.example/simple",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_CONSTRAINT": "/etc/limits.txt",
        "SSL_CERT_FILE": "/etc/ca.crt",
        "UV_HTTP_TIMEOUT": "60",
    }


def test_without_settings_of_pip_uv_keeps_its_own() -> None:
    assert translated(settings("")) == {"UV_INDEX_STRATEGY": "unsafe-best-match"}


def test_what_stages_import_is_compiled_already() -> None:
    """Where Python is told to write no bytecode, nothing after the installation would."""
    for name in ("torch", "transformers", "trl", "peft", "hydra", "matplotlib"):
        spec = find_spec(name)
        assert spec and spec.origin and Path(cache_from_source(spec.origin)).exists(), name
