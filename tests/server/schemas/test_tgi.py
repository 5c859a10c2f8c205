"""The bodies of TGI's own routes."""

from __future__ import annotations

import pytest
import httpx
from collections.abc import *
from pathlib import Path
from typing import Any
import asyncio, threading, socket, time, json, subprocess, sys, os
from hfstream.server import BackgroundServer, Settings, create_app
from hfstream.server.engine.protocol import EngineRequest
from hfstream.version import __version__
from tests.helpers.scripted_engine import *


def test_what_may_be_null_and_what_is_unknown() -> None:
    optional = [name for name, field in GenerateParameters.model_fields.items() if field.default is None]
    assert len(optional) == 14
    body = parameters(",".join(f'"{name}":null' for name in optional) + ',"unknown":[1]')
    assert parse_body(body.encode(), GenerateRequest).parameters == GenerateParameters()


def test_no_parameters_are_not_empty_ones() -> None:
    assert parse_body(b'{"inputs":"x"}', GenerateRequest).parameters.do_sample
    assert not parse_body(b'{"inputs":"x","parameters":{}}', GenerateRequest).parameters.do_sample


def test_stream_is_read_by_one_route_only() -> None:
    assert parse_body(b'{"inputs":"x","stream":true}', CompatGenerateRequest).stream
    assert refused('{"inputs":"x","stream":null}', CompatGenerateRequest)[0] == 422
    parse_body(b'{"inputs":"x","stream":null}', GenerateRequest)
