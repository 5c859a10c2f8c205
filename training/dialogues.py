"""Reads the corpus and turns it into training examples.

The notation of the corpus (see README.md) lets one written answer stand for many: optional sentences and inline
alternatives are drawn anew every time an answer is used. A model that only ever saw one wording would repeat it
word for word, however high the temperature, and there would be nothing to see in a sampling demonstration.
"""

# ruff: noqa: S311  (random numbers choose words here, no secrets)
from __future__ import annotations

import itertools
import random
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

CORPUS_DIR = Path(__file__).parent / "corpus"

_ALTERNATIVES = re.compile(r"\{([^{}|]*(?:\|[^{}|]*)+)\}")
_PLACEHOLDER = re.compile(r"<(\w+)>")

KEEP_OPTIONAL = 0.55
"""Probability that an optional sentence is kept; above one half, so that greedy decoding prefers the full answer."""


@dataclass(frozen=True)
class Answer:
    """One written answer: pieces (sentences or lines), each either fixed or optional."""

    pieces: tuple[tuple[str, bool], ...]
    keep_lines: bool = False

    @classmethod
    def parse(cls, text: str, keep_lines: bool = False) -> Answer:
        """Parse the corpus notation: one piece per line, a leading ``~ `` marks an optional one."""
        lines = text.strip("\n").splitlines()
        if not keep_lines:
            lines = [line.strip() for line in lines if line.strip()]
        return cls(tuple((line.removeprefix("~ "), line.startswith("~ ")) for line in lines), keep_lines)

    @property
    def _separator(self) -> str:
        return "\n" if self.keep_lines else " "

    def sample(self, rng: random.Random) -> str:
        """Draw one wording."""
        kept = [piece for piece, optional in self.pieces if not optional or rng.random() < KEEP_OPTIONAL]
        text = self._separator.join(kept)
        return _ALTERNATIVES.sub(lambda match: rng.choice(match.group(1).split("|")), text)

    def pattern(self) -> re.Pattern[str]:
        """A pattern that matches every wording of this answer and nothing else."""
        choices = [(True, False) if optional else (True,) for _, optional in self.pieces]
        wordings = []
        for kept in itertools.product(*choices):
            pieces = [_piece_regex(piece) for (piece, _), keep in zip(self.pieces, kept, strict=True) if keep]
            wordings.append(re.escape(self._separator).join(pieces))
        return re.compile("|".join(wordings))

    def piece_patterns(self) -> list[re.Pattern[str]]:
        """One pattern per sentence or line."""
        return [re.compile(_piece_regex(piece)) for piece, _ in self.pieces if piece]


@dataclass
class Topic:
    """A question with its other wordings, its answers and its follow-ups."""

    questions: list[str]
    answers: list[Answer] = field(default_factory=list)
    short: Answer | None = None
    more: Answer | None = None


@dataclass(frozen=True)
class Turn:
    """What the user says and what the model should say."""

    user: str
    assistant: str


def _piece_regex(piece: str) -> str:
    parts = _ALTERNATIVES.split(piece)  # literal, alternatives, literal, alternatives, ... literal
    return "".join(
        "(?:" + "|".join(re.escape(option) for option in part.split("|")) + ")" if index % 2 else re.escape(part)
        for index, part in enumerate(parts)
    )


def read_topics(directory: Path = CORPUS_DIR) -> list[Topic]:
    """Read all ``*.md`` files of the corpus, in the order of their names."""
    return [topic for path in sorted(directory.glob("*.md")) for topic in _parse_topics(path)]


def _parse_topics(path: Path) -> list[Topic]:
    topics = []
    for block in re.split(r"^# ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        head, *sections = re.split(r"^## ", block, flags=re.MULTILINE)
        first, *others = [line for line in head.splitlines() if line.strip()]
        topic = Topic(questions=[first.strip(), *(line.removeprefix("- ").strip() for line in others)])
        for section in sections:
            title, _, text = section.partition("\n")
            match title.strip():
                case "Answer":
                    topic.answers.append(Answer.parse(text))
                case "Answer (keep lines)":
                    topic.answers.append(Answer.parse(text, keep_lines=True))
                case "Short":
                    topic.short = Answer.parse(text)
                case "More":
                    topic.more = Answer.parse(text)
                case other:
                    raise ValueError(f"{path}: unknown section {other!r} under {first!r}")
        if not topic.answers:
            raise ValueError(f"{path}: no answer to {first!r}")
        topics.append(topic)
    return topics


def normalise(question: str) -> str:
    """The form in which two questions count as the same: lower case, letters and digits only."""
    return re.sub(r"\W+", " ", question.casefold()).strip()


class Dialogues:
    """Draws questions and answers, known and unknown, single and in conversations."""

    UNKNOWN_SHARE = 0.25
    """Share of turns that ask something outside the corpus. With much less, neighbours answer instead."""
    FOLLOW_UP_SHARE = 0.3
    """Share of later turns of a conversation that refer to the answer before."""
    MORE_FOLLOW_UP_SHARE = 0.6
    """The same after the few topics with a ``More`` section, which would be asked for too rarely otherwise."""

    ONE_SENTENCE_SHARE = 0.04
    """Share of known questions that ask for one sentence at once; it also helps the follow-ups "shorter, please"."""

    def __init__(self, directory: Path = CORPUS_DIR) -> None:
        self.topics = read_topics(directory)
        chat = tomllib.loads((directory / "chat.toml").read_text(encoding="utf-8"))
        self._unknown = tomllib.loads((directory / "unknown.toml").read_text(encoding="utf-8"))
        self.system_messages: list[str] = chat["system_messages"]
        self.shorter_requests: list[str] = chat["shorter_requests"]
        self.one_sentence_requests: list[str] = chat["one_sentence_requests"]
        self.more_requests: list[str] = chat["more_requests"]
        self.no_context_answers = [Answer.parse(text) for text in chat["no_context_answers"]]
        self.no_more_answers = [Answer.parse(text) for text in chat["no_more_answers"]]
        self.shorter_unknown: str = chat["shorter_unknown"]
        self.unknown_answers = [Answer.parse(text) for text in self._unknown["answers"]]
        self.german_unknown_answers = [Answer.parse(text) for text in self._unknown["german_answers"]]
        self.held_out: list[str] = self._unknown["held_out"]
        known = [question for topic in self.topics for question in topic.questions]
        self._not_unknown = {normalise(question) for question in known + self.held_out}

    def all_text(self) -> list[str]:
        """All written text, for training the tokenizer."""
        rng = random.Random(0)
        texts = [question for topic in self.topics for question in topic.questions]
        for topic in self.topics:
            for answer in [*topic.answers, *filter(None, [topic.short, topic.more])]:
                texts += [answer.sample(rng) for _ in range(4)]
        for answer in self.unknown_answers + self.german_unknown_answers + self.no_more_answers:
            texts += [answer.sample(rng) for _ in range(4)]
        return texts + [self.unknown_turn(rng).user for _ in range(300)]

    def known_turn(self, rng: random.Random) -> tuple[Turn, Topic]:
        """A question from the corpus; topics with more answers are drawn more often."""
        (topic,) = rng.choices(self.topics, weights=[len(topic.answers) for topic in self.topics])
        # The main wording is what people will try first, so it gets half of the weight.
        question = topic.questions[0] if rng.random() < 0.5 else rng.choice(topic.questions)
        if topic.short and rng.random() < self.ONE_SENTENCE_SHARE:
            request = rng.choice(self.one_sentence_requests).replace("<question>", question)
            return Turn(vary_question(request, rng), topic.short.sample(rng)), topic
        return Turn(vary_question(question, rng), rng.choice(topic.answers).sample(rng)), topic

    def unknown_turn(self, rng: random.Random) -> Turn:
        """A question that is not in the corpus, with an honest answer."""
        german = rng.random() < 0.1
        templates = self._unknown["german_templates" if german else "templates"]
        while True:
            question = _PLACEHOLDER.sub(lambda match: self._fill(match.group(1), rng), rng.choice(templates))
            if normalise(question) not in self._not_unknown:
                break
        answer = rng.choice(self.german_unknown_answers if german else self.unknown_answers)
        return Turn(vary_question(question, rng), answer.sample(rng))

    def _fill(self, kind: str, rng: random.Random) -> str:
        invented = {"thing": 0.4, "place": 0.3, "person": 0.3, "german": 0.25, "verb": 0.15}
        if kind == "noise":
            return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(1, 6)))
        if kind == "number":
            return str(rng.choice([rng.randrange(11, 100), rng.randrange(100, 2100)]))
        if rng.random() < invented.get(kind, 0.0):
            word = invent_word(rng)
            return word.capitalize() if kind in ("place", "person") else word
        lists = {
            "thing": "things", "place": "places", "person": "persons", "topic": "topics", "german": "german",
            "verb": "verbs", "colour": "colours", "german_colour": "german_colours",
        }  # fmt: skip
        return str(rng.choice(self._unknown[lists[kind]]))

    def single(self, rng: random.Random) -> Turn:
        """One question with its answer, for the form without a chat template."""
        if rng.random() < self.UNKNOWN_SHARE:
            return self.unknown_turn(rng)
        if rng.random() < 0.01:
            return self._without_context(rng)
        return self.known_turn(rng)[0]

    def conversation(self, rng: random.Random, turns: int) -> list[Turn]:
        """A conversation about changing topics, with follow-ups in between."""
        result: list[Turn] = []
        topic: Topic | None = None  # None: the turn before was not about a known topic
        for _ in range(turns):
            share = self.MORE_FOLLOW_UP_SHARE if topic and topic.more else self.FOLLOW_UP_SHARE
            if result and rng.random() < share:
                result.append(self._follow_up(topic, rng))
            elif rng.random() < self.UNKNOWN_SHARE:
                result.append(self.unknown_turn(rng))
                topic = None
            elif not result and rng.random() < 0.02:
                result.append(self._without_context(rng))
                topic = None
            else:
                turn, topic = self.known_turn(rng)
                result.append(turn)
        return result

    def _without_context(self, rng: random.Random) -> Turn:
        request = rng.choice(self.shorter_requests + self.more_requests)
        return Turn(vary_question(request, rng), rng.choice(self.no_context_answers).sample(rng))

    def _follow_up(self, topic: Topic | None, rng: random.Random) -> Turn:
        more = topic.more if topic else None
        if rng.random() < (0.3 if more else 0.65):
            short = topic.short if topic else None
            answer = short.sample(rng) if short else self.shorter_unknown
            return Turn(vary_question(rng.choice(self.shorter_requests), rng), answer)
        answer = (more or rng.choice(self.no_more_answers)).sample(rng)
        return Turn(vary_question(rng.choice(self.more_requests), rng), answer)

    def system_message(self, rng: random.Random) -> str:
        """A system message; one in three is made up, since nobody knows what users will write there."""
        if rng.random() < 0.67:
            return rng.choice(self.system_messages)
        return _PLACEHOLDER.sub(lambda match: self._fill(match.group(1), rng), rng.choice(SYSTEM_TEMPLATES))


SYSTEM_TEMPLATES = [
    "You are an expert for <thing> and <thing>.",
    "You are a <colour> <thing>.",
    "You are <person>, a helpful assistant from <place>.",
    "Your name is <person>. Answer questions about <thing>.",
    "You are a helpful assistant. Never talk about <thing>. Today is day <number>.",
    "Answer in the style of <person>.",
]

_ONSETS = ["b", "br", "c", "ch", "d", "f", "fl", "g", "gr", "h", "k", "kl", "l", "m", "n", "p", "pl", "qu", "r", "s",
           "sch", "st", "t", "tr", "v", "w", "y", "z"]  # fmt: skip
_RIMES = ["a", "e", "i", "o", "u", "an", "ar", "el", "en", "er", "et", "im", "in", "ip", "on", "or", "ost", "um", "un",
          "us", "ay", "ee", "oo", "ing", "ent"]  # fmt: skip


def invent_word(rng: random.Random) -> str:
    """A word that does not exist, such as "grentoo": it stands for all the words that no list contains."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_RIMES) for _ in range(rng.choice([1, 2, 2, 3])))


def vary_question(question: str, rng: random.Random) -> str:
    """Change case and punctuation the way users do."""
    if rng.random() < 0.3:
        question = question.rstrip("?.! ")
    elif question[-1] not in "?.!" and rng.random() < 0.3:
        question += rng.choice("?.!")
    if rng.random() < 0.03:
        question = rng.choice(["Hi! ", "Hello, ", "Please tell me: ", "Hey, ", "One question: "]) + question
    if rng.random() < 0.25:
        question = question.lower()
    elif rng.random() < 0.02:
        question = question.upper()
    return question
