"""The page stands alone, says what the table says, and what a model answered stays text."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import browser
from comparison import BATCH, EVIL, PROMPTS, SEEDS, UPDATES, make_session

from eval.pages.samples import side_by_side
from eval.readme import block
from eval.report import write_report
from eval.results.headline import headline
from eval.results.history import trainings
from eval.results.metric import GROUPS
from eval.results.metrics import METRICS
from eval.results.options import differences
from eval.results.rows import build_rows
from eval.results.session import jobs_of
from eval.results.table import rows_of, write_table

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "results.schema.json").read_text())
KINDS: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
KINDS |= {"integer": int, "number": (int, float)}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison with its table and its page."""
    made = make_session(tmp_path_factory.mktemp("report"))
    write_report(made, write_table(made))
    return made


class Page(HTMLParser):
    """A page's tags, the addresses in it, its text, its tables, and what its figures say to a screen reader."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.labels: list[str | None] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        names = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
        self.addresses += [value or "" for name, value in attrs if name in names]
        if tag == "svg":
            self.labels.append(values.get("aria-label"))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & {*self.tags[-1:]}:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def page(session: Path) -> Page:
    return Page((session / "report.html").read_text())


def test_the_page_stands_alone_and_answers_are_text(session: Path, page: Page) -> None:
    text = (session / "report.html").read_text()
    assert not {"script", "iframe", "object", "img"} & {*page.tags}
    assert all(address.startswith(("#", "data:,")) for address in page.addresses), page.addresses
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", text))
    assert page.text.count(EVIL) == 12 * (1 + 4), "of a dozen prompts, each and the answers of four models"
    assert page.tags.count("svg") == page.tags.count("figcaption") == 7
    assert all(page.labels) and len({*page.labels}) == 7


def test_the_prompts_are_spread_evenly(page: Page) -> None:
    places = [int(place) for place in re.findall(rf"Prompt (\d+) of {PROMPTS}", page.text)]
    steps = {later - earlier for earlier, later in pairwise(places)}
    assert places[0] == 1 and len(places) == 12 and steps <= {PROMPTS // 12, PROMPTS // 12 + 1}


def numbers(cell: str) -> list[float]:
    scale = 100 if "%" in cell else 1
    return [float(found.replace(",", "")) / scale for found in re.findall(r"-?\d[\d,]*\.?\d*(?:e[+-]\d+)?", cell)]


def test_the_pages_numbers_are_those_of_the_table(session: Path, page: Page) -> None:
    rows = {row["label"]: row for row in json.loads((session / "table.json").read_text())["rows"]}
    head, *lines = [[cell.strip() for cell in line] for line in page.tables[0]]
    assert head[1:] == ["ORPO", "SFT → DPO", "SFT", "base model"], "the candidates are first"
    assert [line[0] for line in lines if len(line) == 1] == list(GROUPS)
    shown = {line[0]: line[1:] for line in lines if len(line) > 1}
    keys = {metric.title: metric.key for metric in METRICS}
    compared = 0
    for name, cells in shown.items():
        for label, cell in zip(head[1:], cells, strict=True):
            value = rows[label]["values"].get(keys.get(name))
            if isinstance(value, dict):
                wanted = [value[key] for key in ("mean", "spread", "low", "high") if value[key] is not None]
            elif isinstance(value, int | float):
                wanted = [value]
            else:
                continue
            tolerance = 0.0005001 if "%" in cell else 0.005001
            if abs(wanted[0]) > 1000:  # counts are whole, FLOPs have three digits
                tolerance = 0.5 if keys[name] != "flops" else 0.005 * wanted[0]
            assert numbers(cell) == pytest.approx(wanted, abs=tolerance, rel=0), (name, cell)
            compared += len(wanted)
    assert compared > 100
    assert page.tables[1][1:], "and the matrix of win rates is there"


def problems(value: Any, schema: dict[str, Any], place: str = "$") -> list[str]:
    """What of `value` breaks the schema, for the few keywords that ours uses."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if "anyOf" in schema:
        found = [problems(value, choice, place) for choice in schema["anyOf"]]
        return [] if [] in found else found[-1]
    wrong = []
    kinds = schema.get("type", [])
    allowed = tuple(KINDS[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds))
    if allowed and not any(isinstance(value, kind) for kind in allowed):
        wrong.append(f"{place} is no {kinds}")
    if value not in schema.get("enum", [schema.get("const", value)]):
        wrong.append(f"{place} is {value!r}")
    if isinstance(value, dict):
        wrong += [f"{place}.{name} is missing" for name in schema.get("required", []) if name not in value]
        for name, inner in value.items():
            known = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
            wrong += [f"{place}.{name} is unknown"] if known is False else problems(inner, known, f"{place}.{name}")
    if isinstance(value, list):
        wrong += [line for inner in value for line in problems(inner, schema.get("items", {}), f"{place}[]")]
    return wrong


def test_results_follow_their_schema_and_say_what_the_table_says(session: Path) -> None:
    results = json.loads((session / "results.json").read_text())
    assert problems(results, SCHEMA) == []
    for broken in ({"format": 1}, {"rows": [{}]}, {"notes": [1]}, {"more": 1}):
        assert problems(results | broken, SCHEMA), broken
    table = json.loads((session / "table.json").read_text())
    assert (results["rows"], results["format"]) == (table["rows"], table["format"])
    assert len(results["stages"]) == 3 * len(SEEDS), "SFT is shared by two pipelines and there once"


def test_dpo_goes_on_from_the_pairs_that_sft_has_read(session: Path) -> None:
    found = {(training.stage, training.seed): training for training in trainings(build_rows(jobs_of(session)))}
    read = UPDATES * BATCH
    assert found["sft", 0].after == found["orpo", 1].after == read and found["dpo", 1].after == 2 * read
    pairs, losses = found["dpo", 0].curve("loss")
    assert pairs.tolist() == [read + step * BATCH for step in range(1, UPDATES + 1)]
    assert losses.tolist() == [1 / step for step in range(1, UPDATES + 1)]
    assert found["sft", 0].curve("logps_sum/chosen")[1].size == 0


def test_only_what_differs_is_shown_and_no_secret(session: Path) -> None:
    stages = {name: session.parent / "seed-0" / name for name in ("sft", "dpo", "orpo")}
    differing, particular = differences(stages)
    assert differing == [["option", *stages], ["learning_rate", "0.001", "0.0002", "0.001"]]
    assert particular == [["option", *stages], ["nll_span", "–", "–", "full"]]
    assert all("secret" not in (session / name).read_text() for name in ("report.html", "results.json"))


def test_a_sweep_has_figures_of_one_setting_each(tmp_path: Path) -> None:
    """However long its options are: they once left no room for the axes, of which Matplotlib warns."""
    swept = make_session(tmp_path)
    names = ("learning_rate", "max_grad_norm", "beta")
    settings = [" ".join(f"orpo.{name}={seed}" for name in names) for seed in SEEDS]
    for seed in SEEDS:
        path = swept / str(seed) / "job.json"
        setting = {f"orpo.{name}": seed for name in names}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"setting": setting}))
    write_report(swept, rows_of(swept))
    text = (swept / "report.html").read_text()
    assert [text.count(f"<figcaption>{setting}: ") for setting in settings] == [5, 5]
    labels = Page(text).labels
    assert len(labels) == len({*labels}) == 3 + 5 + 5, "losses, log-probs and the sweep's page are of the whole sweep"


def test_the_answer_is_the_same_everywhere_and_comes_first(session: Path, page: Page) -> None:
    table = json.loads((session / "table.json").read_text())
    answer, *further = headline(table["rows"])
    assert "SFT → DPO gives better responses than ORPO (100 : 0, sure)" in answer
    places = [
        page.text.index(text)
        for text in (answer, *further, *table["scope"], "Likelihoods after training", "Libraries that trained")
    ]
    assert places == sorted(places)
    text = (session / "table.md").read_text()
    assert text.startswith(f"**{answer}**") and all(line in text for line in [*further, *table["scope"]])
    assert f"**{answer}**" in block("readme", table) and block("readme", table).index(answer) < block(
        "readme", table
    ).index("| ORPO |")
    results = json.loads((session / "results.json").read_text())
    assert (results["headline"], results["scope"]) == ([answer, *further], table["scope"])


def test_the_higher_reward_won_and_reasons_are_given(session: Path) -> None:
    """Of rows in which SFT → DPO always has the higher reward, it won each prompt; equal rewards are tied."""
    rows = build_rows(jobs_of(session))
    examples = side_by_side(rows)
    assert [[side.outcome for side in example.sides] for example in examples] == [["", "won", "", ""]] * 12
    assert examples[0].sides[1].reasons == ["gold reward 1.50", "right fact", "0 courtesies", "3 tokens"]
    (dpo,) = [row for row in rows if row.pipeline == "dpo"]
    dpo.results = next(row.results for row in rows if row.pipeline == "orpo")
    assert [side.outcome for side in side_by_side(rows)[0].sides] == ["tied", "tied", "", ""]


def test_chromium_shows_the_page_without_a_complaint(session: Path, tmp_path: Path) -> None:
    """On a phone both candidates' columns are on the screen, and nothing is wider than it."""
    with browser(tmp_path / "profile") as found:
        found.resize(390, 844)
        found.call("Page.navigate", url=f"file://{session / 'report.html'}")
        found.wait_for("Provenance")
        assert found.value("document.documentElement.scrollWidth") == 390
        heads = (
            "[...document.querySelector('#table thead tr').children].map(cell => cell.getBoundingClientRect().right)"
        )
        assert found.value(heads)[2] <= 390, "the first column, ORPO and SFT → DPO"
        assert found.complaints == []
        # The page's own policy forbids every request and every script; a page that tried either logs a violation.
        tried = tmp_path / "tried.html"
        tried.write_text((session / "report.html").read_text().replace("</main>", f"{EVIL}<p>the end</p></main>"))
        found.call("Page.navigate", url=f"file://{tried}")
        found.wait_for("the end")
        assert len(found.complaints) >= 2


def test_the_responses_stand_beside_the_page_with_their_prompts(session: Path) -> None:
    """A line for each prompt, pipeline, seed and draw; those to one prompt follow each other."""
    lines = [json.loads(line) for line in (session / "responses.jsonl").read_text().splitlines()]
    rows = rows_of(session)
    assert len(lines) == sum(len(result["greedy"]) + len(result["sampled"]) for row in rows for result in row.results)
    assert [line["prompt"] for line in lines] == sorted(line["prompt"] for line in lines)
    first = rows[1].results[0]["sampled"][0]
    assert {**first, "pipeline": "sft", "setting": "", "seed": 0, "temperature": 1} in lines
