"""A server for your tests that says its lines: at a pace, with faults, on a real port, without a model.

from hfstream import InferenceClient
from hfstream.testing import Answer, ScriptedServer, token_events

with ScriptedServer(Answer(token_events("Hello", ",", " you"))) as server:
    print(list(InferenceClient(server.url).text_generation("Hi", stream=True)))

`faults` has what can go wrong, a `Recorder` keeps what a real server says, a `ChaosProxy` is a bad network, and pytest
finds the fixtures `scripted_server` and `reference_backend` by itself.
"""

from . import faults
from .chaos import Chaos, ChaosProxy
from .recorder import Chunk, Recorder, Recording
from .scripted import Answer, Fault, Request, ScriptedServer, Step
from .wire import DONE, chat_event, chat_events, final_event, token_event, token_events

__all__ = [
    "DONE",
    "Answer",
    "Chaos",
    "ChaosProxy",
    "Chunk",
    "Fault",
    "Recorder",
    "Recording",
    "Request",
    "ScriptedServer",
    "Step",
    "chat_event",
    "chat_events",
    "faults",
    "final_event",
    "token_event",
    "token_events",
]
