"""Measures what the model card claims: python training/check.py [MODEL] [--list]

Greedy answers are compared with the written answers of the corpus. An answer counts as exact if it is one of the
wordings that the notation of the corpus allows, and as close if it differs from the nearest one in less than five
percent of its characters. Sampled answers are judged sentence by sentence.
"""

# ruff: noqa: S311, T201  (random numbers choose words here, no secrets; the table is printed)
from __future__ import annotations

import argparse
import difflib
import itertools
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from dialogues import Answer, Dialogues, Topic
from tool_dialogues import Chat, Function, ToolDialogues, text_of
from train import CONTEXT
from transformers import AutoModelForCausalLM, AutoTokenizer

BUNDLED = Path(__file__).parent.parent / "hfstream" / "server" / "bundled"
MAX_NEW_TOKENS = 400
CLOSE = 0.95
"""Similarity from which an answer counts as close."""
MAIN_QUESTIONS = [
    "How do you make cheese?",
    "What is Deep Learning?",
    "What can you do in Nuremberg, Germany? Give me 3 Tips",
    "Why is streaming useful?",
    "Tell me a story.",
    "Write a poem about the sea.",
]
ROUND_TRIPS = ["Käse, Brötchen, Größe", "crème brûlée, œuf, ça", "寿司とラーメン 東京", "한국어", "Привет, мир",
               "🧀👩‍🚀🏳️‍🌈",
               "tabs\tand\r\nlines  ", "\x00\x7f\ufeff", "math ∑∫√ ≠"]  # fmt: skip
Message = dict[str, Any]


class Model:
    """The model with its tokenizer, answering prompts in both forms."""

    def __init__(self, path: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self.model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)

    def raw(self, prompts: Sequence[str], temperature: float = 0.0) -> list[str | None]:
        """Answers to plain prompts; None where no end came. The line feed before the answer must be there."""
        texts = self._generate([self.tokenizer(prompt)["input_ids"] for prompt in prompts], temperature)
        return [text[1:] if text is not None and text.startswith("\n") else None for text in texts]

    def chat(
        self,
        conversations: Sequence[list[Message]],
        temperature: float = 0.0,
        functions: Sequence[Sequence[Function]] | None = None,
    ) -> list[str | None]:
        """Answers to conversations, each with its functions; None where no end came."""
        offered = functions or [()] * len(conversations)
        prompts = [self.encode(messages, each) for messages, each in zip(conversations, offered, strict=True)]
        return self._generate(prompts, temperature)

    def encode(self, messages: list[Message], functions: Sequence[Function] = ()) -> list[int]:
        """Token ids of a conversation that waits for the assistant."""
        tools = [function.tool for function in functions] or None
        encoded = self.tokenizer.apply_chat_template(messages, tools, add_generation_prompt=True, return_dict=True)
        ids: list[int] = encoded["input_ids"]
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids."""
        return str(self.tokenizer.decode(ids))

    @torch.inference_mode()
    def _generate(self, prompts: list[list[int]], temperature: float) -> list[str | None]:
        answers: dict[int, str | None] = {}
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        for first in range(0, len(order), 32):
            chosen = order[first : first + 32]
            batch = self.tokenizer.pad(
                {"input_ids": [prompts[index] for index in chosen]}, padding_side="left", return_tensors="pt"
            )
            sampling = {"temperature": temperature, "top_k": 0} if temperature else {}
            room = min(MAX_NEW_TOKENS, CONTEXT - batch["input_ids"].shape[1])
            output = self.model.generate(**batch, max_new_tokens=room, do_sample=bool(sampling), **sampling)
            for index, row in zip(chosen, output[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
                end = self.tokenizer.eos_token_id
                answers[index] = self.decode(row[: row.index(end)]) if end in row else None
        return [answers[index] for index in range(len(prompts))]


def exact(text: str | None, answers: Sequence[Answer]) -> bool:
    """Whether the text is one of the wordings of the answers."""
    return text is not None and any(answer.pattern().fullmatch(text) for answer in answers)


def close(text: str | None, answers: Sequence[Answer]) -> bool:
    """Whether the text nearly is one of the wordings."""
    if text is None or exact(text, answers):
        return text is not None
    rng = random.Random(0)
    wordings = {answer.sample(rng) for answer in answers for _ in range(60)}
    return any(difflib.SequenceMatcher(None, text, wording, autojunk=False).ratio() >= CLOSE for wording in wordings)


def readable(text: str | None, answers: Sequence[Answer]) -> bool:
    """Whether the text consists of written sentences only, in whatever order."""
    if text is None:
        return False
    for answer in answers:
        for pattern in sorted(answer.piece_patterns(), key=lambda pattern: -len(pattern.pattern)):
            text = pattern.sub("", text)
    return not text.strip()


@dataclass
class Score:
    """A line of the result table."""

    name: str
    passed: int
    total: int
    failures: list[tuple[str, str | None]]


Judge = Callable[[str | None, Sequence[Answer]], bool]


def score(
    name: str, questions: Sequence[str], texts: Sequence[str | None], expected: Sequence[Sequence[Answer]], judge: Judge
) -> Score:
    """Count the texts that ``judge`` accepts as one of the answers expected for their question."""
    rows = zip(questions, texts, expected, strict=True)
    failures = [(question, text) for question, text, answers in rows if not judge(text, answers)]
    return Score(name, len(questions) - len(failures), len(questions), failures)


def question_forms(topics: Sequence[Topic]) -> dict[str, list[str]]:
    """The ways of typing the main question of each topic."""
    main = [topic.questions[0] for topic in topics]
    return {
        "as written": main,
        "lower case": [question.lower() for question in main],
        "without final punctuation": [re.sub(r"\s*[?!.]$", "", question) for question in main],
        "lower case, without punctuation": [re.sub(r"\s*[?!.]$", "", question).lower() for question in main],
    }


def user(text: str) -> Message:
    """A message of the user."""
    return {"role": "user", "content": text}


def check_greedy(model: Model, topics: list[Topic]) -> list[Score]:
    """Greedy answers to the known questions in all forms."""
    answers = [topic.answers for topic in topics]
    scores = []

    def add(name: str, questions: Sequence[str], texts: Sequence[str | None], expected: list[list[Answer]]) -> None:
        scores.append(score(f"{name}: exact", questions, texts, expected, exact))
        scores.append(score(f"{name}: exact or close", questions, texts, expected, close))

    for name, questions in question_forms(topics).items():
        add(f"raw, {name}", questions, model.raw(questions), answers)
    main = [topic.questions[0] for topic in topics]
    add("chat", main, model.chat([[user(question)] for question in main]), answers)
    system = {"role": "system", "content": "You are a helpful assistant."}
    add("chat with system message", main, model.chat([[system, user(question)] for question in main]), answers)
    shorts = [[topic.short] if topic.short else [] for topic in topics]
    one_sentence = [f"{question} Answer in one sentence." for question in main]
    scores.append(score("raw, in one sentence: exact", one_sentence, model.raw(one_sentence), shorts, exact))
    others = [(question, topic.answers) for topic in topics for question in topic.questions[1:]]
    other_questions = [question for question, _ in others]
    add("raw, other wordings", other_questions, model.raw(other_questions), [expected for _, expected in others])
    return scores


def check_conversations(model: Model, dialogues: Dialogues) -> list[Score]:
    """Follow-ups, and questions late in a long conversation."""
    topics = dialogues.topics
    main = [topic.questions[0] for topic in topics]
    answers = [topic.answers for topic in topics]
    rng = random.Random(1)
    scores = []
    for depth in (300, 700, 1000, 1400, 1700):
        conversations = []
        for topic in topics:
            messages: list[Message] = []
            while len(model.encode([*messages, user(topic.questions[0])])) < depth:
                turn, _ = dialogues.known_turn(rng)
                messages += [user(turn.user), {"role": "assistant", "content": turn.assistant}]
            conversations.append([*messages, user(topic.questions[0])])
        texts = model.chat(conversations)
        name = f"chat after {depth}+ tokens: exact"
        scores.append(score(name, main, texts, answers, exact))
    after = [
        [user(topic.questions[0]), {"role": "assistant", "content": topic.answers[0].sample(rng)}] for topic in topics
    ]
    texts = model.chat([[*messages, user("Can you say that shorter?")] for messages in after])
    shorts = [[topic.short] if topic.short else [] for topic in topics]
    scores.append(score("follow-up, shorter", main, texts, shorts, exact))
    texts = model.chat([[*messages, user("Tell me more")] for messages in after])
    mores = [[topic.more] if topic.more else dialogues.no_more_answers for topic in topics]
    scores.append(score("follow-up, more", main, texts, mores, exact))
    texts = model.chat([[*messages, user("Thanks!")] for messages in after])
    (thanks,) = [topic.answers for topic in topics if topic.questions[0] == "Thanks!"]
    scores.append(score("follow-up, thanks", main, texts, [thanks] * len(main), exact))
    return scores


def check_unknown(model: Model, dialogues: Dialogues) -> list[Score]:
    """Questions outside the corpus, none of which were trained on."""
    honest = dialogues.unknown_answers + dialogues.german_unknown_answers
    held_out = dialogues.held_out
    made = [dialogues.unknown_turn(random.Random(1000 + index)).user for index in range(100)]
    scores = []
    for name, questions in {"held out": held_out, "made from templates": made}.items():
        texts = model.raw(questions)
        scores.append(score(f"unknown, {name}", questions, texts, [honest] * len(questions), exact))
    texts = model.chat([[user(question)] for question in held_out])
    scores.append(score("unknown, held out, chat", held_out, texts, [honest] * len(held_out), exact))
    return scores


def check_functions(model: Model, dialogues: Dialogues, drawn: int = 100) -> list[Score]:
    """Calls, answers from results, and known questions while functions are offered."""
    tools = ToolDialogues(dialogues)
    chats = iter(tools.chat(random.Random(2000 + number)) for number in itertools.count())
    others = itertools.islice((chat for chat in chats if chat.exchanges[0].call), drawn)
    scores = []
    for name, asked in {"of the documentation": tools.documented_chats()[::2], "drawn": list(others)}.items():
        scores += [_check_calls(model, name, asked), _check_answers(model, name, asked)]
    questions = [topic.questions[0] for topic in dialogues.topics]
    offered = [tools.documented_chats()[0].functions] * len(questions)
    texts = model.chat([[user(question)] for question in questions], functions=offered)
    answers = [topic.answers for topic in dialogues.topics]
    return [*scores, score("known questions with functions: exact", questions, texts, answers, exact)]


def _check_calls(model: Model, name: str, chats: Sequence[Chat]) -> Score:
    questions, functions = [chat.exchanges[0].user for chat in chats], [chat.functions for chat in chats]
    texts = model.chat([[user(question)] for question in questions], functions=functions)
    expected = [chat.exchanges[0].call for chat in chats]
    rows = zip(questions, texts, expected, strict=True)
    failures = [(question, text) for question, text, call in rows if call is None or text != call.text]
    return Score(f"calls, questions {name}: exact", len(chats) - len(failures), len(chats), failures)


def _check_answers(model: Model, name: str, chats: Sequence[Chat]) -> Score:
    conversations, expected = [], []
    for chat in chats:
        exchange = chat.exchanges[0]
        if exchange.call is None:
            raise ValueError("an exchange without a call")
        function = {"name": exchange.call.function.name, "arguments": exchange.call.arguments}
        called = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
        conversations.append([user(exchange.user), called, {"role": "tool", "content": exchange.call.result}])
        expected.append(text_of(exchange.call.answer))
    texts = model.chat(conversations, functions=[chat.functions for chat in chats])
    rows = zip(expected, texts, strict=True)
    failures = [(answer, text) for answer, text in rows if text != answer]
    return Score(f"answers from results, questions {name}: exact", len(chats) - len(failures), len(chats), failures)


def check_sampling(model: Model, topics: list[Topic]) -> list[Score]:
    """Variety and readability of sampled answers, six per question."""
    torch.manual_seed(0)
    answers = {topic.questions[0]: topic.answers for topic in topics}
    questions = [question for question in answers for _ in range(6)]
    scores = []
    for temperature in (0.7, 1.0):
        texts = model.raw(questions, temperature)
        groups = {question: texts[6 * index : 6 * index + 6] for index, question in enumerate(answers)}
        name = f"T={temperature}: distinct samples"
        distinct = sum(len(set(group)) for group in groups.values())
        scores.append(Score(name, distinct, len(questions), []))
        varied = {question: len(set(groups[question])) for question in MAIN_QUESTIONS}
        failures: list[tuple[str, str | None]] = [(q, f"{count} of 6") for q, count in varied.items() if count < 5]
        name = f"T={temperature}: main questions with 5+ of 6 distinct"
        scores.append(Score(name, len(varied) - len(failures), len(varied), failures))
        name = f"T={temperature}: only written sentences"
        scores.append(score(name, questions, texts, [answers[question] for question in questions], readable))
    return scores


def check_tokenizer(model: Model) -> Score:
    """Any text must survive encoding and decoding."""
    texts = [model.decode(model.tokenizer(text)["input_ids"][1:]) for text in ROUND_TRIPS]
    failures: list[tuple[str, str | None]] = [
        pair for pair in zip(ROUND_TRIPS, texts, strict=True) if len(set(pair)) > 1
    ]
    return Score("tokenizer round trips", len(texts) - len(failures), len(texts), failures)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure what the bundled model can do.")
    parser.add_argument("model", type=Path, nargs="?", default=BUNDLED)
    parser.add_argument("--list", action="store_true", help="also print every failure")
    parser.add_argument("--quick", action="store_true", help="greedy and unknown questions only")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    start = time.monotonic()
    dialogues = Dialogues()
    model = Model(arguments.model)

    scores = [check_tokenizer(model), *check_functions(model, dialogues), *check_greedy(model, dialogues.topics)]
    scores += check_unknown(model, dialogues)
    if not arguments.quick:
        scores += [*check_conversations(model, dialogues), *check_sampling(model, dialogues.topics)]

    print("| check | passed | share |\n|---|---|---|")
    for line in scores:
        print(f"| {line.name} | {line.passed} of {line.total} | {line.passed / line.total:.1%} |")
    if arguments.list:
        for line in scores:
            for question, text in line.failures:
                print(f"\n[{line.name}] {question!r}\n    {text!r}")
    size = sum(path.stat().st_size for path in arguments.model.iterdir())
    print(f"\n{model.model.num_parameters():,} parameters, {size:,} bytes, checked in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
