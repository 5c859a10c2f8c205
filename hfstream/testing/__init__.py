"""A server for your tests that says its lines: at a pace, with faults, on a real port, without a model.

from hfstream import InferenceClient
from hfstream.testing import Answer, ScriptedServer, token_events

with ScriptedServer(Answer(token_events("Hello", ",", " you"))) as server:
    print(list(InferenceClient(server.url).text_generation("Hi", stream=True)))

`faults` has what can go wrong, a `Recorder` keeps what a real server says, a `ChaosProxy` is a bad network, and pytest
finds the fixtures `scripted_server` and `reference_backend` by itself.
"""

from . import faults
from .chaos import ChaosProxy, FaultRates
from .events import DONE, chat_event, chat_events, final_event, token_event, token_events
from .recorder import Chunk, Recorder, Recording
from .scripted import Fault, Request, Response, ScriptedServer, Step

__all__ = [
    "DONE",
    "ChaosProxy",
    "Chunk",
    "Fault",
    "FaultRates",
    "Recorder",
    "Recording",
    "Request",
    "Response",
    "ScriptedServer",
    "Step",
    "chat_event",
    "chat_events",
    "faults",
    "final_event",
    "token_event",
    "token_events",
]
