"""Answers that must fit a grammar: asks for one, and says what came of it."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import jsonschema

from hfstream import InferenceClient, ValidationError
from tests.helpers.random_grammars import random_regex, random_schema

TOKENS = 200


def ask(client: InferenceClient, grammar: dict[str, Any], seed: int) -> tuple[str, str]:
    """The text, and why it ended: TGI's reason, or "refused". Every other one is sampled, hot."""
    sampling: dict[str, Any] = {"temperature": 1.2, "seed": seed} if seed % 2 else {}
    try:
        response = cast(
            "Any", client.text_generation("Hello!", grammar=grammar, max_new_tokens=TOKENS, details=True, **sampling)
        )
    except ValidationError as error:
        assert "`grammar` is not valid: " in str(error)
        return str(error), "refused"
    return response.generated_text, response.details.finish_reason.value


def check_schema(client: InferenceClient, seed: int) -> str:
    """Asks for JSON by a random schema, and checks it. Returns why the answer ended."""
    schema = random_schema(seed)
    text, reason = ask(client, {"type": "json", "value": schema}, seed)
    if reason == "eos_token":
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    return reason


def check_regex(client: InferenceClient, seed: int) -> str:
    """The same with a random regular expression."""
    pattern = random_regex(seed)
    text, reason = ask(client, {"type": "regex", "value": pattern}, seed)
    if reason == "eos_token":
        assert re.fullmatch(pattern, text), (pattern, text)
    return reason
