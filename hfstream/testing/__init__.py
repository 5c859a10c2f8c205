"""A server for your tests that says its lines: at a pace, with faults, on a real port, without a model.

from hfstream import InferenceClient
from hfstream.testing import Answer, ScriptedServer, token_events

with ScriptedServer(Answer(token_events("Hello", ",", " you"))) as server:
    print(list(InferenceClient(server.url).text_generation("Hi", stream=True)))
"""

from .scripted import Answer, Fault, Request, ScriptedServer, Step
from .wire import final_event, token_event, token_events

__all__ = ["Answer", "Fault", "Request", "ScriptedServer", "Step", "final_event", "token_event", "token_events"]
