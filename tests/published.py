"""A row of each published data set, with exactly its columns, and how it is read."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset as Rows

from recipes.data.schemas import Pair, read_pair
from recipes.data.sources import load_source
from recipes.profiles import Dataset


def user(text: str) -> dict[str, str]:
    return {"content": text, "role": "user"}


def assistant(text: str) -> dict[str, str]:
    return {"content": text, "role": "assistant"}


ASKED, BETTER, WORSE = "Where is Ashford?", "By the river.", "No idea."
WHOLE = {"chosen": [user(ASKED), assistant(BETTER)], "rejected": [user(ASKED), assistant(WORSE)]}
EARLIER = [user("Hello."), assistant("Hello!")]
SHP: dict[str, Any] = {
    **{"post_id": "qt3nxl", "domain": "askculinary_train", "upvote_ratio": 0.98, "history": ASKED},
    **{
        "c_root_id_A": "hkh25sc",
        "c_root_id_B": "hkh25lp",
        "created_at_utc_A": 1636822112,
        "created_at_utc_B": 1636822110,
    },
    **{"score_A": 340, "score_B": 166, "human_ref_A": BETTER, "human_ref_B": WORSE, "labels": 1},
    **{"seconds_difference": 2.0, "score_ratio": 2.0481927711},
}
# Data set -> a row with exactly its columns.
PUBLISHED: dict[str, dict[str, Any]] = {
    "Anthropic/hh-rlhf": {
        "chosen": f"\n\nHuman: {ASKED}\n\nAssistant: {BETTER}",
        "rejected": f"\n\nHuman: {ASKED}\n\nAssistant: {WORSE}",
    },
    "HuggingFaceH4/ultrafeedback_binarized": {
        **{"prompt": ASKED, "prompt_id": "0" * 64, **WHOLE, "messages": WHOLE["chosen"]},
        **{"score_chosen": 8.5, "score_rejected": 7.0},
    },
    "argilla/ultrafeedback-binarized-preferences-cleaned": {
        **{"source": "sharegpt", "prompt": ASKED, "chosen": WHOLE["chosen"], "chosen-rating": 4.5},
        **{"chosen-model": "gpt-4", "rejected": WHOLE["rejected"], "rejected-rating": 3.75, "rejected-model": "llama"},
    },
    "argilla/distilabel-capybara-dpo-7k-binarized": {
        **{
            "source": "Dove",
            "conversation": [{"input": "Hello.", "output": "Hello!"}, {"input": ASKED, "output": BETTER}],
        },
        **{"original_response": BETTER, "generation_prompt": ["p"], "raw_generation_responses": ["r"]},
        **{"new_generations": [WORSE], "prompt": f"Hello.\nHello!\n{ASKED}"},
        **{"chosen": [*EARLIER, *WHOLE["chosen"]], "rejected": [*EARLIER, *WHOLE["rejected"]]},
        **{"rating_chosen": 5, "rating_rejected": 4, "chosen_model": "a", "rejected_model": "b"},
    },
    "mlabonne/orpo-dpo-mix-40k": {"source": "Airoboros", **WHOLE, "prompt": ASKED, "question": ASKED},
    "stanfordnlp/SHP": SHP,
    "nvidia/HelpSteer3": {
        **{"domain": "general", "language": "english", "context": [user(ASKED)], "response1": WORSE},
        **{"response2": BETTER, "overall_preference": 2},
        "individual_preference": [{"score": 2, "reasoning": "It says where.", "feedback1": "No.", "feedback2": "Yes."}],
    },
    "PKU-Alignment/PKU-SafeRLHF": {
        **{"prompt": ASKED, "response_0": WORSE, "response_1": BETTER, "is_response_0_safe": True},
        **{"better_response_id": 1, "safer_response_id": 0},
    },
    "lmsys/chatbot_arena_conversations": {
        **{"question_id": "q", "model_a": "a", "model_b": "b", "winner": "model_b", "judge": "j", "turn": 1},
        **{"conversation_a": [user(ASKED), assistant(WORSE)], "conversation_b": [user(ASKED), assistant(BETTER)]},
    },
    "berkeley-nest/Nectar": {
        "prompt": f"\n\nHuman: {ASKED}\n\nAssistant: ",
        "answers": [
            {"answer": text, "model": "m", "rank": rank}
            for text, rank in (("In a vale.", 2.0), (BETTER, 1.0), (WORSE, 7.0))
        ],
        **{"turns": 1, "num_responses": 3, "source": ["sharegpt"], "good_natured": True},
    },
    "openbmb/UltraFeedback": {
        **{"source": "sharegpt", "instruction": ASKED, "models": ["a", "b", "c"]},
        "completions": [
            {"response": text, "model": "m", "overall_score": score}
            for text, score in (("In a vale.", 6.0), (WORSE, 2.5), (BETTER, 8.5))
        ],
    },
    "pairs with scores": {
        **{"prompt": ASKED, "response_a": WORSE, "response_b": BETTER, "score_a": 2, "score_b": 9.5},
    },
}


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    made = Rows.from_list(rows)
    if path.suffix == ".parquet":
        made.to_parquet(str(path))
    elif path.suffix == ".csv":
        made.to_csv(str(path))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        made.to_json(str(path), compression="gzip" if path.suffix == ".gz" else None)
    return path


def read(path: Path) -> list[Pair]:
    return [read_pair(row) for row in load_source(Dataset("file", str(path)))["train"].rows]  # type: ignore[arg-type]


def expected(name: str) -> Pair:
    prompt = [{"role": "user", "content": ASKED}]
    if "capybara" in name:
        prompt = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}, *prompt]
    return Pair(prompt, BETTER, WORSE)
