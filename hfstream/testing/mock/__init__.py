"""A server that answers like a model, by rules or from a tape: what `hfstream mock` runs."""

from .loading import RulesError
from .server import MockedRequest, MockServer

__all__ = ["MockServer", "MockedRequest", "RulesError"]
