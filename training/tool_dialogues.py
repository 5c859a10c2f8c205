"""Draws chats with functions: which ones are offered, the calls, their results, and the answers.

The rule that the model has to learn: a known question is answered as without functions. A question about the weather or
a calculation becomes a call of the function for it, a request to search one of the search function. Any other question
becomes a search, if there is a search function. Where no function fits, the model says that it does not know.

Arguments and results are copied, and copying is learnt only from texts that differ every time: numbers, invented words,
and more cities than anyone will ask for.
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dialogues import CORPUS_DIR, Dialogues, invent_word, vary_question

KINDS = ("weather", "calculator", "search")
DOCUMENTED_SHARE = 0.15
"""Share of the questions for functions that are those of the documentation, word for word."""
_PLACEHOLDER = re.compile(r"<(\w+)>")
_DEGREES = re.compile(r"-?\d+ degrees and .*[^.]")


@dataclass(frozen=True)
class Copy:
    """A part of an answer that is copied from an earlier text, token by token."""

    text: str
    after_space: bool = False
    """Whether a space that is not copied stands before it there. It is part of the first token there."""


Parts = list[str | Copy]
"""An answer: text and what is copied, each encoded on its own."""


@dataclass(frozen=True)
class Function:
    """A function that is offered."""

    kind: str
    name: str
    parameters: tuple[str, ...]

    @property
    def signature(self) -> str:
        """As the chat template writes it: with the words of the name first, which say what to call the function for."""
        return f"{self.name.replace('_', ' ')}:{self.name}({''.join(self.parameters[:1])})"

    @property
    def tool(self) -> dict[str, Any]:
        """As a request has it, in OpenAI's form."""
        schema = {
            "type": "object",
            "properties": {name: {"type": "string"} for name in self.parameters},
            "required": list(self.parameters),
        }
        return {"type": "function", "function": {"name": self.name, "parameters": schema}}


@dataclass
class Question:
    """What a user asks."""

    kind: str
    """One of KINDS, or "unknown"."""
    text: str
    argument: Parts
    """What is passed to the function of this kind."""
    city: str = ""
    unknown_answer: str = ""
    """What is said where no function fits."""


@dataclass(frozen=True)
class Call:
    """A call, its result, and the answer made from it."""

    function: Function
    argument: Parts
    result: str
    answer: Parts

    @property
    def value(self) -> str:
        """The argument as text."""
        return text_of(self.argument)

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments of the call."""
        return {self.function.parameters[0]: self.value}

    @property
    def text(self) -> str:
        """The call as the model writes it."""
        arguments = json.dumps(self.arguments, ensure_ascii=False)
        return f'<tool_call>\n{{"name": "{self.function.name}", "arguments": {arguments}}}\n</tool_call>'


@dataclass(frozen=True)
class Exchange:
    """A question and what follows: an answer, perhaps with a call before it."""

    user: str
    answer: Parts
    call: Call | None = None
    forced: bool = False
    """Whether the request demanded the call. The model does not learn to make it then, only what follows."""


@dataclass
class Chat:
    """A chat with functions."""

    functions: list[Function]
    system: str | None = None
    exchanges: list[Exchange] = field(default_factory=list[Exchange])


def text_of(parts: Parts) -> str:
    """The text of an answer."""
    return "".join(part if isinstance(part, str) else part.text for part in parts)


def answer_from(kind: str, city: str, result: str) -> Parts:
    """The answer made from a function's result. `city`: the argument of a call about the weather."""
    if result.startswith("Error"):
        return ["That did not work.", Copy(" " + result)]
    if kind == "weather":
        return ["The weather in", Copy(" " + city), ":", Copy(" " + result)]
    if kind == "calculator":
        return ["The result is", Copy(" " + result), "."]
    if kind == "search":
        return ["Here is what I found:", Copy(" " + result)]
    return ["Here is the result:", Copy(" " + result)]


class ToolDialogues:
    """Draws chats with functions."""

    def __init__(self, dialogues: Dialogues, directory: Path = CORPUS_DIR) -> None:
        self._dialogues = dialogues
        corpus = tomllib.loads((directory / "tools.toml").read_text(encoding="utf-8"))
        self._corpus: dict[str, dict[str, Any]] = corpus
        unknown = tomllib.loads((directory / "unknown.toml").read_text(encoding="utf-8"))
        self._words: dict[str, list[str]] = {
            "thing": unknown["things"], "person": unknown["persons"], "colour": unknown["colours"],
            "city": corpus["weather"]["cities"], "condition": corpus["weather"]["conditions"],
        }  # fmt: skip
        pieces = [piece for topic in dialogues.topics for answer in topic.answers for piece, _ in answer.pieces]
        self._sentences = [piece.strip() for piece in pieces if 10 < len(piece) < 90 and not set(piece) & set('{}|"\\')]

    def documented(self) -> Iterator[Question]:
        """The questions of the documentation."""
        for kind in KINDS:
            for text in self._corpus[kind]["documented"]:
                yield self.parse(kind, text)

    def documented_chats(self) -> list[Chat]:
        """Two chats with each of these questions: both are about the call, or what follows it."""
        chats = []
        for question in self.documented():
            kind = "search" if question.kind == "unknown" else question.kind
            function = self._documented_functions[kind]
            rng = random.Random(question.text)  # noqa: S311 - it chooses words
            call = self._call(function, question.argument, question.city, rng)
            chat = Chat(list(self._documented_functions.values()))
            chat.exchanges.append(Exchange(question.text, [], call))
            chats += [chat, chat]
        return chats

    @property
    def _documented_functions(self) -> dict[str, Function]:
        plain = {kind: (self._corpus[kind]["names"][0], self._corpus[kind]["parameters"][0]) for kind in KINDS}
        return {kind: Function(kind, name, (parameter,)) for kind, (name, parameter) in plain.items()}

    def parse(self, kind: str, text: str) -> Question:
        """A question with its argument, found by the templates of its kind.

        Raises:
            ValueError: no template fits.
        """
        patterns = [re.escape(each) for each in self._corpus[kind]["questions"]]
        longest_first = sorted(patterns, key=len, reverse=True)
        for pattern in longest_first:
            found = re.fullmatch(re.sub(r"<\w+>", "(.+?)", pattern) + r"[?.!]?", text)
            if found:
                span = found.group(1)
                return Question(kind, text, self._argument(kind, text, span), span if kind == "weather" else "")
        if kind == "search":
            return Question("unknown", text, [Copy(_without_end(text))])
        raise ValueError(f"no template of {kind} fits {text!r}")

    def chat(self, rng: random.Random) -> Chat:
        """A chat of one or two questions."""
        chat = Chat(self._offer(rng))
        if rng.random() < 0.1:
            chat.system = self._dialogues.system_message(rng)
        for _ in range(rng.choice([1] * 14 + [2])):
            chat.exchanges.append(self._exchange(chat.functions, rng))
        if not chat.exchanges[-1].answer and rng.random() < 0.03 and all(f.parameters for f in chat.functions):
            chat.exchanges.append(self._forced(chat.functions, rng))
        return chat

    def _offer(self, rng: random.Random) -> list[Function]:
        plain = rng.random() < 0.6  # the names of the documentation
        functions = []
        for kind, share in zip(KINDS, (0.75, 0.65, 0.6), strict=True):
            if rng.random() < share:
                names, parameters = self._corpus[kind]["names"], self._corpus[kind]["parameters"]
                name, parameter = (names[0], parameters[0]) if plain else (rng.choice(names), rng.choice(parameters))
                functions.append(Function(kind, name, (parameter,)))
        if not functions or rng.random() < 0.15:
            for signature in rng.sample(self._corpus["other"]["functions"], k=rng.choice([1, 1, 2])):
                name, _, rest = signature.partition("(")
                parameters = tuple(filter(None, rest.rstrip(")").split(", ")))[:1]
                functions.append(Function("other", name, parameters))
        if rng.random() < 0.6:
            rng.shuffle(functions)
        return functions

    def _exchange(self, functions: Sequence[Function], rng: random.Random) -> Exchange:
        if rng.random() < 0.2:
            turn, _ = self._dialogues.known_turn(rng)
            return Exchange(turn.user, [turn.assistant])
        offered = {function.kind: function for function in functions}
        question = self._question(offered, rng)
        kind = question.kind
        function = offered.get(kind)
        argument = question.argument
        if function is None and kind != "search":  # what was asked for is not there: search for the question
            function = offered.get("search")
            argument = [Copy(_without_end(question.text))]
        if function is None:
            return Exchange(question.text, [question.unknown_answer or self._unknown_answer(rng)])
        return Exchange(question.text, [], self._call(function, argument, question.city, rng))

    def _question(self, offered: dict[str, Function], rng: random.Random) -> Question:
        if rng.random() < DOCUMENTED_SHARE:
            return rng.choice(list(self.documented()))
        kinds = list(KINDS) if rng.random() < 0.15 else [kind for kind in KINDS if kind in offered] or list(KINDS)
        kind = rng.choice([*kinds, *kinds, "unknown"])
        if kind == "unknown":
            while True:  # templates about the weather and numbers belong to the other kinds
                turn = self._dialogues.unknown_turn(rng)
                if not re.search(r"weather|\d|[\"\\]", turn.user.lower()):
                    return Question(kind, turn.user, [Copy(_without_end(turn.user))], unknown_answer=turn.assistant)
        template = rng.choice(self._corpus[kind]["questions"])
        span = self._span(kind, rng)
        text = vary_question(_PLACEHOLDER.sub(lambda _: span, template), rng)
        start = text.lower().rfind(span.lower())
        span = text[start : start + len(span)]
        return Question(kind, text, self._argument(kind, text, span), span if kind == "weather" else "")

    def _span(self, kind: str, rng: random.Random) -> str:
        if kind == "weather":
            return self._fill("<city>", rng)
        if kind == "search":
            return self._fill(rng.choice(self._corpus["search"]["topics"]), rng)
        left, right = _number(rng), _number(rng)
        if rng.random() < 0.5:
            return f"{left} {rng.choice(list(self._corpus['calculator']['words']))} {right}"
        sign = rng.choice("+-*/")
        if rng.random() < 0.6:
            return f"{left} {sign} {right}" if rng.random() < 0.85 else f"{left}{sign}{right}"
        inner, outer = f"({left} {sign} {right})", rng.choice("+-*/")
        return f"{inner} {outer} {_number(rng)}" if rng.random() < 0.5 else f"{_number(rng)} {outer} {inner}"

    def _argument(self, kind: str, text: str, span: str) -> Parts:
        after_space = text[: text.rfind(span)].endswith(" ")
        for word, sign in self._corpus["calculator"]["words"].items() if kind == "calculator" else ():
            if found := re.fullmatch(f"(.+) {word}( .+)", span, re.IGNORECASE):
                return [Copy(found[1], after_space), f" {sign}", Copy(found[2])]
        return [Copy(span, after_space)]

    def _call(self, function: Function, argument: Parts, city: str, rng: random.Random) -> Call:
        value = text_of(argument)
        if rng.random() < 0.04:
            result = self._fill(rng.choice(self._corpus["errors"]["results"]), rng)
        elif function.kind == "calculator":
            result = _number(rng, large=True)
        else:
            template = rng.choice(self._corpus[function.kind]["results"])
            if function.kind == "weather":
                template = template.replace("<number>", str(rng.randrange(-15, 40)))
                template = template.replace("<city>", city) if city else template
            result = self._fill(template, rng)
        return Call(function, argument, result, answer_from(function.kind, value, result))

    def _forced(self, functions: Sequence[Function], rng: random.Random) -> Exchange:
        """A call that the request demanded, whatever the question was."""
        turn, _ = self._dialogues.known_turn(rng)
        function = rng.choice(functions)
        argument: Parts = [rng.choice(self._corpus["other"]["values"])]
        return Exchange(turn.user, [], self._call(function, argument, "", rng), forced=True)

    def _unknown_answer(self, rng: random.Random) -> str:
        return rng.choice(self._dialogues.unknown_answers).sample(rng)

    def _fill(self, template: str, rng: random.Random) -> str:
        return _PLACEHOLDER.sub(lambda match: self._word(match.group(1), rng), template)

    def _word(self, kind: str, rng: random.Random) -> str:
        if kind == "number":
            return str(rng.choice([rng.randrange(0, 10), rng.randrange(10, 100), rng.randrange(100, 2100)]))
        if kind == "sentence":
            return rng.choice(self._sentences) if rng.random() < 0.5 else _invented_sentence(rng)
        capital, kind = kind[0].isupper(), kind.lower()
        invented = {"city": 0.35, "thing": 0.25, "person": 0.25}.get(kind, 0.0)
        word = rng.choice(self._words[kind])
        if rng.random() < invented:
            word = " ".join(invent_word(rng) for _ in range(rng.choice([1, 1, 1, 2])))
            word = word.title() if kind != "thing" else word
        return word[0].upper() + word[1:] if capital else word


def _without_end(question: str) -> str:
    return re.sub(r"[?.! ]+$", "", question)


def _number(rng: random.Random, *, large: bool = False) -> str:
    ranges: list[Callable[[], str]] = [
        lambda: str(rng.randrange(0, 20)),
        lambda: str(rng.randrange(10, 100)),
        lambda: str(rng.randrange(10, 100)),
        lambda: str(rng.randrange(100, 1000)),
        lambda: str(rng.randrange(1000, 10_000)),
    ]
    if large:
        ranges += [lambda: str(rng.randrange(-500, 0)), lambda: f"{rng.randrange(0, 1000)}.{rng.randrange(1, 1000)}",
                   lambda: str(rng.randrange(10_000, 1_000_000))]  # fmt: skip
    elif rng.random() < 0.06:
        return f"{rng.randrange(0, 100)}.{rng.randrange(1, 100)}"
    return rng.choice(ranges)()


def _invented_sentence(rng: random.Random) -> str:
    words = [invent_word(rng) if rng.random() < 0.5 else _number(rng) for _ in range(rng.randint(2, 7))]
    return " ".join(words).capitalize() + rng.choice(["", ".", "."])
