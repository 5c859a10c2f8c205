"""The order of the doctor's checks, from the connection to what works. A stream that fails ends them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..._transport.proxies import Proxy
from ...core.urls import service_url
from ...errors import BadRequestError, NotFoundError, ServerError, UnexpectedResponseError, ValidationError
from ...types import Model
from . import features
from .details import describe_stream, numbers_events
from .failures import explain_failure, is_page
from .findings import Finding, Mend, Report, Severity
from .pacing import Pacing
from .prober import LimitReachedError, Prober, Recorded
from .questions import FEW_TOKENS, Questions
from .reach import check_reach
from .servers import find_between, name_server
from .streaming import SendStream, time_stream
from .words import count, duration, plain, shown_url

__all__ = ["examine"]


def examine(report: Report, prober: Prober, *, model: str | None, key: bool) -> None:
    """Fills the report about the server at the URL of `prober`.

    `model` is the name of the model; None takes the first that the server lists. `key` is whether an API key is sent.
    """
    reach = check_reach(prober.url, min(10.0, prober.seconds / 4))
    report.add(reach.findings)
    if not reach.failed:
        _Examination(report, prober, model, key=key, proxy=reach.proxy).run()


class _Examination:
    """The checks of one URL that can be reached."""

    def __init__(self, report: Report, prober: Prober, model: str | None, *, key: bool, proxy: Proxy | None) -> None:
        self._report = report
        self._prober = prober
        self._questions = Questions(prober, model)
        self._key = key
        self._proxy = proxy
        self._models: list[Model] = []
        self._info: dict[str, Any] = {}
        self._main = Recorded(prober.url)

    def run(self) -> None:
        try:
            self._identify()
            self._check_stream()
        except LimitReachedError as limit:
            self._report.add([Finding("streaming", Severity.ERROR, f"No stream was seen: {limit}")])

    def _identify(self) -> None:
        prober = self._prober
        models = prober.send(prober.factory.models(None, prober.limits(0.1)))
        self._models = models.result or []
        info = prober.send(prober.factory.info(None, prober.limits(0.1)))
        self._info = info.result or {}
        names = self._names
        if self._questions.model is None and names:
            self._questions.model = names[0]
        self._questions.native_text = self._has_tgi_routes or not names

    @property
    def _names(self) -> list[str]:
        return [model.id for model in self._models if model.id]

    @property
    def _has_tgi_routes(self) -> bool:
        """Whether text generation at the URL as it is is not for OpenAI's route: the client decides by the URL."""
        return "model_id" in self._info or service_url(self._prober.url, "/v1") == self._prober.url

    def _check_stream(self) -> None:
        questions = self._questions
        chat = questions.stream_chat()
        send: SendStream = questions.stream_chat
        main = chat
        if not chat.works and not chat.arrivals and self._may_be_without_chat(chat):
            text = questions.stream_text()
            if text.works or text.arrivals or (is_missing(chat) and not is_missing(text)):
                main, send = text, questions.stream_text
                self._report.works["chat"] = False
        self._describe_server(main)
        if not main.works:
            self._report.add([self._suggest_url(explain_failure(main, self._names, key=self._key), main)])
            return
        self._main = main
        self._report.works["chat" if main is chat else "text"] = True
        streaming = time_stream(main, send)
        recorded, pacing = streaming.final
        self._report.times = {
            "time_to_first_token": round(pacing.first, 4), "median_between_tokens": round(pacing.median_gap, 4),
            "longest_between_tokens": round(pacing.longest_gap, 4), "last_token": round(pacing.last, 4),
        }  # fmt: skip
        self._report.add(
            [
                self._blame_proxy(streaming.finding()),
                *describe_stream(recorded, chat=main is chat, kind=self._report.server["kind"] or ""),
            ]
        )
        self._report.works["usage"] = main.usage is not None
        self._report.works["resume"] = numbers_events(main)
        self._check_rest(send, pacing, chat=main is chat)

    def _blame_proxy(self, finding: Finding) -> Finding:
        """The finding about the pace; a proxy of this computer's own is the first to be suspected."""
        if self._proxy is None or finding.severity is not Severity.ERROR:
            return finding
        host = urlsplit(self._prober.url).hostname or ""
        mend = Mend("the environment, to go around this computer's own proxy", f"export NO_PROXY={host}")
        evidence = (*finding.evidence, f"the requests went through the proxy {self._proxy}")
        return replace(finding, evidence=evidence, mend=(mend, *finding.mend))

    def _suggest_url(self, finding: Finding, main: Recorded) -> Finding:
        """The finding about a URL at which there is nothing; the path may be wrong, and the rest of it right."""
        parts = urlsplit(self._prober.url)
        if parts.path.strip("/") in ("", "v1") or not (is_missing(main) or is_page(main)):
            return finding
        base = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
        listed = self._prober.get(f"{base}/v1/models")
        if not (listed.works and listed.result.lstrip()[:1] in (b"{", b"[")):
            return finding
        mend = Mend("the URL: there is a model server at this one", f"{shown_url(base)}/v1")
        return replace(finding, mend=(mend,))

    @staticmethod
    def _may_be_without_chat(chat: Recorded) -> bool:
        """Whether the failure says no more than that there is no chat here."""
        no_route = NotFoundError | UnexpectedResponseError | BadRequestError | ValidationError | ServerError
        return isinstance(chat.error, no_route)

    def _describe_server(self, main: Recorded) -> None:
        headers = main.headers
        fingerprint = getattr(main.result, "system_fingerprint", None)
        kind, version = name_server(self._info, self._models, headers, fingerprint or "")
        between = find_between(headers)
        model = self._questions.model
        self._report.server = {
            "kind": kind or None, "version": version or None, "between": between.name if between else None,
            "model": model, "header": headers.get("server"),
        }  # fmt: skip
        if is_page(main):
            return
        name = f"The server is {plain(f'{kind} {version}'.strip())}" if kind else "The kind of server is not known"
        behind = f", behind {plain(headers.get('server') or between.name)}" if between else ""
        names = self._names
        listed = f"it lists {count(len(names), 'model')}" if names else "it lists no models"
        asked = f", and was asked for {plain(model)}" if model else ""
        self._report.add([Finding("server", Severity.OK if kind else Severity.NOTE, name + behind, (listed + asked,))])

    def _check_rest(self, send: SendStream, pacing: Pacing, *, chat: bool) -> None:
        """What is worth asking of a server whose stream works."""
        questions, report = self._questions, self._report
        checks: list[tuple[str, Callable[[], None]]] = []
        if chat:
            checks.append(("text", self._check_text))
        checks.append(("closing", lambda: features.check_closing(report, questions, send, pacing)))
        if chat:
            checks.append(("refusal", lambda: features.check_refusal(report, questions)))
            if self._key:
                checks.append(("key", lambda: features.check_key(report, questions)))
            checks.append(("tools", lambda: features.check_tools(report, questions)))
            checks.append(("json", lambda: features.check_json(report, questions)))
        checks.append(("tokenize", lambda: features.check_tokenize(report, questions)))
        for name, check in checks:
            try:
                check()
            except LimitReachedError as limit:
                report.add([Finding(name, Severity.NOTE, f"Not asked about {name}: {limit}")])

    def _check_text(self) -> None:
        self._questions.native_text = self._has_tgi_routes
        text = self._questions.stream_text(FEW_TOKENS)
        self._report.works["text"] = text.works
        if not text.works and text.error is not None:
            summary = "There is no text generation beside the chat"
            evidence = f"{text.url_shown}: HTTP {text.status or 'nothing'}: {plain(text.error.message)}"
            self._report.add([Finding("text", Severity.NOTE, summary, (evidence,))])
        elif text.arrivals:
            self._report.add(cold_start(self._main, text))


COLD_START = 1.0
"""Seconds that a first token takes longer than a later one, from which on it is worth a word."""


def cold_start(first: Recorded, later: Recorded) -> list[Finding]:
    """A finding if the first stream took far longer to begin than a later one."""
    before, after = first.arrivals[0], later.arrivals[0]
    if before - after < COLD_START or before < 4 * after:
        return []
    summary = f"The first answer took {duration(before)} to begin, a later one {duration(after)}: a cold start"
    evidence = "the server, or the platform that it runs on, had to start or to load the model"
    return [Finding("start", Severity.NOTE, summary, (evidence,))]


def is_missing(recorded: Recorded) -> bool:
    """Whether there is no such route."""
    return isinstance(recorded.error, NotFoundError)
