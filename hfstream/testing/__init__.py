"""Test servers on a real port that send scripted responses, including faults. They need no model.

    from hfstream import InferenceClient
    from hfstream.testing import Response, ScriptedServer, token_events

    with ScriptedServer(Response(token_events("Hello", ",", " you"))) as server:
        print(list(InferenceClient(server.url).text_generation("Hi", stream=True)))

`faults` builds faulty responses, and `UNUSUAL_RESPONSES` has those that users have reported of many servers. A
`Recorder` records the responses of a real server, a `MockServer` answers by rules or from what was recorded, a
`ChaosProxy` injects network faults, and the fixtures `scripted_server`, `mock_server` and `reference_backend` are
available in pytest without configuration.
"""

from . import faults
from .chaos import ChaosProxy, FaultRates, ProxiedConnection
from .events import DONE, chat_event, chat_events, final_event, token_event, token_events
from .mock import MockedRequest, MockServer, RulesError
from .recorder import Recorder
from .recording import Chunk, Recording
from .request import Request
from .response import Fault, Response, Step
from .scripted import ScriptedServer
from .unusual import UNUSUAL_RESPONSES, UnusualResponse

__all__ = [
    "DONE",
    "UNUSUAL_RESPONSES",
    "ChaosProxy",
    "Chunk",
    "Fault",
    "FaultRates",
    "MockServer",
    "MockedRequest",
    "ProxiedConnection",
    "Recorder",
    "Recording",
    "Request",
    "Response",
    "RulesError",
    "ScriptedServer",
    "Step",
    "UnusualResponse",
    "chat_event",
    "chat_events",
    "faults",
    "final_event",
    "token_event",
    "token_events",
]
