"""The server's configuration: one frozen dataclass."""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes, from a number with an optional unit: "512M", "2G", "1.5GiB". Units are powers of 1,024.

    Raises:
        ValueError: `text` is not a size, or 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if not size:
        raise ValueError(f"{text!r} is not a size; write, for example, 512M or 2G")
    return size


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The configuration of a server. Names and defaults are TGI's where TGI has them.

    Raises:
        ValueError: a value is out of its range.
    """

    model: str = "bundled"
    """"bundled", a directory with a checkpoint in Hugging Face format, a GGUF file, or the id of a model on the Hub."""
    upstreams: tuple[str, ...] = ()
    """URLs of other servers, whose answers this server passes on, in place of a model of its own: one that ends with
    ``/v1`` is of a server with OpenAI's routes, any other of one with TGI's."""
    upstream_api_key: str | None = None
    """Sent to `upstreams` as ``Authorization: Bearer <key>``."""
    upstream_model: str | None = None
    """The model to ask `upstreams` for where a request names none, or "tgi". None: the first that they list."""
    upstream_timeout: float = 600.0
    """Seconds that one of `upstreams` may take until the first token, or for an answer that is not streamed."""
    served_model_name: str | None = None
    """The model's name in responses, /info and /v1/models. None: `model`."""
    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes any free one."""
    uds: str | None = None
    """Path of a Unix domain socket to listen on, in place of `host` and `port`."""
    root_path: str = ""
    """The path under which a proxy serves this server, such as "/llm", if it strips that from the requests' paths."""
    api_key: str | None = None
    """If set, requests that generate or tokenise must send it as ``Authorization: Bearer <key>``."""
    max_concurrent_requests: int = 128
    """Requests, running and waiting together; one more is refused at once."""
    tokens_per_second: float | None = None
    """Pace of each response, for demonstrations and tests. None: as fast as the model generates."""
    max_batch_size: int = 32
    """Requests that get a token in each step of the model; more wait for a row."""
    max_total_tokens: int | None = None
    """Tokens of prompt and response together, if fewer than the model's own context."""
    max_input_tokens: int | None = None
    """Tokens of a prompt. None: one fewer than `max_total_tokens`, as in TGI."""
    max_best_of: int = 2
    """Generations of one prompt that TGI's routes choose from."""
    max_client_batch_size: int = 4
    """Prompts of one request."""
    max_stop_sequences: int = 4
    """Stop strings of one request."""
    max_top_n_tokens: int = 5
    """How many of the likeliest tokens a request may have reported at each step."""
    tool_call_format: str | None = None
    """How the model writes tool calls: "hermes", "llama3" or "mistral". None: as its chat template says."""
    kv_cache_memory: int | None = None
    """Bytes that keys and values may take, those included that are kept for later requests. None: a quarter of the
    memory. What does not fit waits; if a whole context does not fit, `max_total_tokens` is what does."""
    dtype: str = "float32"
    """"float32", "bfloat16" or "float16", whatever the checkpoint is stored in."""
    device: str = "cpu"
    """torch's name of the device."""
    threads: int = 1
    """torch's threads within one operation; one is fastest for small models."""
    payload_limit: int = 2_000_000
    """Bytes that a request's body may have."""
    cors_allow_origin: tuple[str, ...] = ()
    """Origins, such as "https://example.org", whose pages may call the server, besides this computer's. "*": all."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that requests may have as Host, besides addresses and this computer's names; "*": all. Checked only while
    `host` is a loopback address: so that no page on the internet can pretend to be one of this server."""
    client_timeout: float = 30.0
    """Seconds that a client may take to send its request, or to read some of the response. Then it is disconnected."""
    sse_keepalive: float = 15.0
    """Seconds without an event after which a stream sends a comment."""
    shutdown_grace: float = 10.0
    """Seconds that running requests may take to finish once the server is stopped by a signal."""
    resume_grace: float = 5.0
    """Seconds that a resumable stream keeps its permit and waits for a client whose connection was lost."""

    def __post_init__(self) -> None:
        if self.tool_call_format not in (None, "hermes", "llama3", "mistral"):
            raise ValueError('tool_call_format must be None, "hermes", "llama3" or "mistral"')
        self._check_limits()

        self._check_upstreams()

    def _check_upstreams(self) -> None:
        if isinstance(self.upstreams, str):
            raise ValueError("upstreams must be a tuple of URLs, not one string")  # noqa: TRY004 - as for the rest
        if self.upstream_api_key == "":
            raise ValueError("upstream_api_key must be None or at least one character")
        if not self.upstream_timeout > 0:
            raise ValueError("upstream_timeout must be more than 0")

    def _check_limits(self) -> None:
        if any(limit is not None and limit < 1 for limit in (self.max_input_tokens, self.max_total_tokens)):
            raise ValueError("max_input_tokens and max_total_tokens must be at least 1")
        if self.max_input_tokens and self.max_total_tokens and self.max_input_tokens >= self.max_total_tokens:
            raise ValueError("max_input_tokens must be less than max_total_tokens")
        if self.kv_cache_memory is not None and self.kv_cache_memory < 1:
            raise ValueError("kv_cache_memory must be at least 1 byte")
        if self.max_concurrent_requests < 1 or self.max_batch_size < 1:
            raise ValueError("max_concurrent_requests and max_batch_size must be at least 1")
        if self.max_best_of < 1 or self.max_client_batch_size < 1:
            raise ValueError("max_best_of and max_client_batch_size must be at least 1")
        if min(self.max_stop_sequences, self.max_top_n_tokens) < 0:
            raise ValueError("max_stop_sequences and max_top_n_tokens must be at least 0")
        if self.tokens_per_second is not None and not self.tokens_per_second > 0:
            raise ValueError("tokens_per_second must be more than 0")
        if not self.client_timeout > 0:
            raise ValueError("client_timeout must be more than 0")
        if isinstance(self.cors_allow_origin, str) or isinstance(self.allowed_hosts, str):
            raise ValueError("cors_allow_origin and allowed_hosts must be tuples, not one string")  # noqa: TRY004 - as for the rest
        if not 0 <= self.port <= 65_535:
            raise ValueError("port must be between 0 and 65535; 0 takes a free one")
        if self.api_key == "":  # likely an unset variable in a script, and not a server without a key
            raise ValueError("api_key must be None or at least one character")

        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise ValueError('root_path must be a path that begins with "/" and not end with it, as in "/llm"')

    @property
    def model_name(self) -> str:
        """The model's name for clients."""
        name = (self.upstream_model or "upstream") if self.upstreams else self.model
        return name if self.served_model_name is None else self.served_model_name
