"""The assistant's header where a chat template ignores `add_generation_prompt`: found by rendering, and asked for.

Such a template writes the header (`<|assistant|>` and a new line) only with the assistant's message. A prompt would end
before it: the header would be trained as part of each response, and a model would be asked to respond without it.
"""

import json
from collections.abc import Callable

Render = Callable[[list[dict[str, str]], bool], str]  # messages, and whether to ask for a response

ASK = [{"role": "user", "content": "\ufdd0question\ufdd1"}]
ANSWER = "\ufdd0answer\ufdd1"  # in no template


def header(render: Render) -> str:
    """Return the header that a template writes before a response but not at a prompt's end; usually empty.

    Blanks at its end are the response's: tokenizers join them with its first word. So blanks alone are no header.
    """
    try:
        asked = render(ASK, True)
        if asked != render(ASK, False):
            return ""
        whole = render([*ASK, {"role": "assistant", "content": ANSWER}], False)
    except Exception:  # a template is a program, and raises what it likes; rows that it rejects are named later
        return ""
    between, found, _ = whole.removeprefix(asked).partition(ANSWER)
    return between.rstrip(" ") if found and whole.startswith(asked) and between.strip() else ""


def with_header(template: str, found: str) -> str:
    """Return a template that writes the header `found` where a response is asked for, and is the same elsewhere."""
    if not found:
        return template
    text = json.dumps(found, ensure_ascii=False)  # Jinja's strings have JSON's escapes
    body = template.removesuffix("\n").removesuffix("\r")  # Jinja drops a template's last line end
    return f"{body}{{{{ {text} if add_generation_prompt else '' }}}}"
