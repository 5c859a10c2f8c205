"""A chat model and an LLM for LangChain that generate with an hfstream client.

Needs LangChain's core (``pip install "hfstream[langchain]"``).
"""

try:
    import langchain_core  # noqa: F401  for the message below
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "hfstream.langchain needs LangChain's core: pip install 'hfstream[langchain]'", name=_error.name
    ) from _error

from .chat_model import ChatInferenceClient
from .llm import InferenceClientLLM

__all__ = ["ChatInferenceClient", "InferenceClientLLM"]
