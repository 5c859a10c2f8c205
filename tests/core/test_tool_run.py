"""The rounds of a conversation with tools that begins in an unusual way. More in client/test_run_tools."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream.core.tool_run import ToolRun

RESULT = {"role": "tool", "tool_call_id": "1", "content": "Rain."}


@pytest.mark.parametrize("messages", [[], [RESULT]], ids=["none", "a result alone"])
def test_without_a_message_of_the_model_no_call_waits(messages: list[Any]) -> None:
    run = ToolRun(messages, [], {}, max_rounds=1, on_tool_error="return", may_await=False)
    assert run.messages == messages
    assert run._calls == []
