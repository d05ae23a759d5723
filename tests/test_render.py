"""For every chat template and kind of tokenizer: nothing is lost or added, and no text becomes a control token."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kinds import CONTROL, KINDS, PHI, STOPS, TEMPLATES, build, phi_3
from samples import real

from recipes.config import UserError
from recipes.data.chat import Refused, Renderer, ask_for_header
from recipes.data.tokenize import Tokenise
from recipes.profiles import Dataset, Model

LOOK_ALIKES = st.sampled_from(
    [*CONTROL, "<|endoftext|>", "<|im_", "end|>", "<|", "<<s>>", "\n\n", " ", "🦦", "é", "漢"]
)
TEXTS = st.one_of(st.text(max_size=40), st.lists(LOOK_ALIKES, max_size=5).map("".join), st.just("word" * 50))
CASES: list[Any] = [(kind, name) for kind in KINDS for name in TEMPLATES]
CASES += [("ours", "its own"), ("ours", "zephyr")]  # of Phi-3's form
CASES += [pytest.param("real", name, marks=real(PHI)) for name in ("its own", "zephyr")]


@st.composite
def pairs(draw: Any) -> dict[str, Any]:
    turns = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    for number in range(2 * draw(st.integers(0, 2)) + 1):
        turns.append({"role": ("user", "assistant")[number % 2], "content": draw(TEXTS)})
    return {"prompt": turns, "chosen": draw(TEXTS), "rejected": draw(TEXTS)}


def renderer(kind: str, name: str) -> Renderer:
    tokenizer = build(kind) if kind in KINDS else phi_3(kind, name)
    own = name == "its own"
    stops = ["<|end|>", "<|endoftext|>"] if own else [STOPS.get(name, str(tokenizer.eos_token))]
    if kind in KINDS:
        tokenizer.chat_template = TEMPLATES[name]
        ask_for_header(tokenizer)
    return Renderer(tokenizer, Model(name, "x", stop_tokens=stops))


def tokenise(render: Renderer, pair: dict[str, Any], **options: Any) -> dict[str, Any]:
    columns = {name: [value] for name, value in pair.items()} | {"problem": [""], "detail": [""]}
    dataset = Dataset("x", "x", **{"max_length": 100_000, **options})
    return {name: values[0] for name, values in Tokenise(render, dataset)(columns).items()}


def spelled(render: Renderer, kind: str, ids: list[int]) -> str:
    """Spell ids out, stretch by stretch between the control tokens, without the blanks that a tokenizer puts before."""
    control = {render.twin.token_to_id(spelling): token for token, spelling in render.spelling.items()}
    ids = ids[1:] if ids[:1] == [render.tokenizer.bos_token_id] else ids
    texts, stretch = [], []
    for token in [*ids, None]:
        if token is not None and token not in control:
            stretch.append(token)
            continue
        text = str(render.tokenizer.decode(stretch))
        blank = kind == "sentencepiece" or (kind == "metaspace" and not texts)
        texts += [text.removeprefix(" ") if blank else text, "" if token is None else control[token]]
        stretch = []
    return "".join(texts)


def controls(render: Renderer, ids: list[int]) -> list[int]:
    known = {render.twin.token_to_id(spelling) for spelling in render.spelling.values()}
    known -= {render.twin.token_to_id(render.spelling["<unk>"])}  # what stands for a strange character
    return [token for token in ids if token in known]


@pytest.mark.parametrize("kind, name", CASES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pair=pairs())
def test_the_ids_say_what_the_template_prints(kind: str, name: str, pair: dict[str, Any]) -> None:
    render = renderer(kind, name)
    row = tokenise(render, pair)
    plain = {
        key: value if isinstance(value, str) else [turn | {"content": "x"} for turn in value]
        for key, value in pair.items()
    }
    bare = tokenise(render, plain | {"chosen": "x", "rejected": "x"})
    template: Any = render.tokenizer.apply_chat_template
    for answer in ("chosen", "rejected"):
        ids, stop = row["prompt_ids"] + row[f"{answer}_ids"], row[f"{answer}_ids"][-1]
        # the template's control tokens are there, and no others, whatever the texts say
        assert controls(render, ids) == controls(render, bare["prompt_ids"] + bare[f"{answer}_ids"])
        # the answer ends in one stop, and the dialogue has at most one BOS, at its beginning
        assert stop == render.stops[0] and row[f"{answer}_ids"].count(stop) == 1
        assert render.tokenizer.bos_token_id not in ids[1:]
        # every character is there
        text = template([*pair["prompt"], {"role": "assistant", "content": pair[answer]}], tokenize=False)
        if kind in ("byte-level", "sentencepiece", "metaspace"):
            expected = text[: len(text.rstrip("\n"))] if text.endswith("\n") and name != "its own" else text
            found = spelled(render, kind, ids)
            expected = expected.removeprefix("<s>")
            if kind != "byte-level":  # these write a blank as ▁, and so take ▁ for a blank
                expected, found = expected.replace("▁", " "), found.replace("▁", " ")
            assert found == expected


@pytest.mark.parametrize("kind, name", CASES)
def test_without_look_alikes_the_ids_are_the_tokenizers_own(kind: str, name: str) -> None:
    render = renderer(kind, name)
    turns = [{"role": "user", "content": "What is  the river?\n"}, {"role": "assistant", "content": " It is Cress."}]
    row = tokenise(render, {"prompt": turns[:1], "chosen": turns[1]["content"], "rejected": "No."})
    text = render.tokenizer.apply_chat_template(turns, tokenize=False)
    asked = render.tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    encode: Any = render.tokenizer
    assert row["prompt_ids"][-4:] == encode(asked, add_special_tokens=False)["input_ids"][-4:]
    whole = encode(text, add_special_tokens=False)["input_ids"]
    if name != "ends-in-a-blank":  # where a token spans the border, the prompt's ids come first
        ids, theirs = (
            [token for token in tokens if token != render.bos]
            for tokens in (row["prompt_ids"] + row["chosen_ids"], whole)
        )
        assert ids == theirs[: len(ids)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_border_inside_a_token_leaves_the_prompt_whole(kind: str) -> None:
    """The prompt ends in a blank that would merge with the answer's first word."""
    render = renderer(kind, "ends-in-a-blank")
    ask = [{"role": "user", "content": "What is the river?"}]
    row = tokenise(render, {"prompt": ask, "chosen": "It is Cress.", "rejected": "No."})
    asked = render.encode([render.text(ask)])[0]
    assert row["prompt_ids"] == render.begin(asked)
    if kind != "unigram":
        text = spelled(render, kind, row["prompt_ids"] + row["chosen_ids"])
        assert text == "user: What is the river?</s>assistant: It is Cress.</s>"


@pytest.mark.parametrize("name", sorted({*TEMPLATES} - {"ignores-the-question"}))
def test_a_template_that_asks_for_its_header_is_left_as_it_is(name: str) -> None:
    tokenizer = build("byte-level")
    tokenizer.chat_template = TEMPLATES[name]
    ask_for_header(tokenizer)
    assert tokenizer.chat_template == TEMPLATES[name]


@pytest.mark.parametrize(
    "written, begun, response",
    [
        ("<|assistant|>\n", "<|assistant|>\n", "It is Cress.</s>"),  # a header on a line of its own
        ('ASSISTANT\'s \\n "reply": ', 'ASSISTANT\'s \\n "reply":', " It is Cress.</s>"),  # its blank is not
        (" ", "", " It is Cress.</s>"),  # no header, as Mistral's
    ],
)
def test_a_header_that_only_a_response_has_ends_the_prompt(written: str, begun: str, response: str) -> None:
    """The template ignores `add_generation_prompt`; a program that reads the saved one asks with the header, too."""
    tokenizer = build("byte-level")
    template = "{% for m in messages %}{% if m.role == 'assistant' %}HEADER{% else %}<|user|>{% endif %}"
    template = f"{template}{{{{ m.content }}}}</s>{{% endfor %}}\n"
    several = {"default": template.replace("HEADER", written), "other": TEMPLATES["zephyr"]}
    for templates in (several["default"], several):
        tokenizer.chat_template = templates
        ask_for_header(tokenizer)
        ask_for_header(tokenizer)  # of a stage's model: it changes nothing more
        render = Renderer(tokenizer, Model("x", "x"))
        turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Ah."}]
        turns.append({"role": "user", "content": "What is the river?"})
        row = tokenise(render, {"prompt": turns, "chosen": "It is Cress.", "rejected": "No."})
        asked = f"<|user|>Why?</s>{written}Ah.</s><|user|>What is the river?</s>"
        assert tokenizer.apply_chat_template(turns, tokenize=False) == asked
        assert tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == asked + begun
        assert spelled(render, "byte-level", row["prompt_ids"]) == asked + begun
        assert spelled(render, "byte-level", row["chosen_ids"]) == response


@pytest.mark.parametrize("side", ["truncate_prompt", "truncate_answer"])
@given(pair=pairs(), limit=st.integers(4, 60))
@settings(max_examples=60, deadline=None)
def test_a_cut_pair_fits_and_keeps_its_stop_and_bos(side: str, pair: dict[str, Any], limit: int) -> None:
    render = renderer("sentencepiece", "zephyr")
    whole, cut = tokenise(render, pair), tokenise(render, pair, max_length=limit, policies={"overlong": side})
    fits = len(cut["prompt_ids"]) + max(len(cut["chosen_ids"]), len(cut["rejected_ids"])) <= limit
    for answer in ("chosen_ids", "rejected_ids"):
        assert cut[answer][-1] == render.stops[0]
        assert cut[answer][:-1] == whole[answer][: len(cut[answer]) - 1]
    assert cut["prompt_ids"][:1] == [render.bos]
    assert cut["prompt_ids"][1:] == whole["prompt_ids"][len(whole["prompt_ids"]) - len(cut["prompt_ids"]) + 1 :]
    longest = max(len(whole["chosen_ids"]), len(whole["rejected_ids"]))
    room = limit - longest - 1 > 0 if side == "truncate_prompt" else limit - len(whole["prompt_ids"]) > 1
    assert fits == (whole["long"] <= limit or room)


def test_what_a_template_refuses_is_said() -> None:
    tokenizer = build("byte-level")
    tokenizer.chat_template = "{{ raise_exception('no system turns, please') }}"
    with pytest.raises(Refused, match="no system turns, please"):
        Renderer(tokenizer, Model("x", "x")).text([{"role": "system", "content": "Be brief."}])


def test_a_stop_token_must_be_one_that_no_text_can_write() -> None:
    with pytest.raises(UserError, match="any message may contain"):
        Renderer(build("byte-level"), Model("x", "x", stop_tokens=["a"]))
