# ruff: noqa: E501, S101, S603, T201  lines of the SVG are long; the program runs hfstream, and says what it wrote
"""Draws what commands print, as pictures of a terminal: the commands are run, and nothing is added to their output.

python docs/images/terminal.py        writes mock-terminal.svg and doctor-terminal.svg next to this file; needs nginx
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from rich.console import Console
from rich.text import Text

from hfstream.server import BackgroundServer, Settings

HERE = Path(__file__).parent
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
 font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""rich's, without the fonts that it loads from another host."""

RULES = """\
tokens_per_second: 30
rules:
  - when: {contains: weather, tool: get_weather}
    tool_calls:
      - name: get_weather
        arguments: {city: Nuremberg}
  - when: {role: tool}
    text: Take an umbrella.
  - when: {contains: cheese, call: 1}
    error: overloaded
    retry_after: 1
  - when: {contains: cheese}
    text: Milk, rennet and salt.
"""
TOOLS = [{"type": "function", "function": {"name": "get_weather"}}]


def draw(lines: list[Text], title: str, name: str, width: int = 112) -> None:
    """Writes a picture of these lines."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(line, soft_wrap=False)
    svg = console.export_svg(title=title, code_format=FORMAT, unique_id=name)
    (HERE / f"{name}.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")
    print(f"{name}.svg")


def chat(url: str, *messages: tuple[str, str], tools: object = None) -> None:
    """Sends a chat with these roles and texts."""
    body = {
        "messages": [{"role": role, "content": content} for role, content in messages],
        "stream": True,
        **({"tools": tools} if tools else {}),
    }
    httpx.post(f"{url}/v1/chat/completions", json=body)


def mock() -> None:
    """What `hfstream mock` prints."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rules.yaml").write_text(RULES, encoding="utf-8")
        command = [sys.executable, "-m", "hfstream.cli", "mock", "rules.yaml", "--port", "0"]
        environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "200", "PYTHONPATH": str(HERE.parents[1])}
        with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            output = process.stderr.readline()
            [url] = re.findall(r"http://[\d.:]+", output)
            chat(url, ("user", "What is the weather?"), tools=TOOLS)
            chat(url, ("user", "What is the weather?"), ("tool", "rain"), tools=TOOLS)
            for _ in range(2):
                chat(url, ("user", "How do you make cheese?"))
            chat(url, ("user", "Why is the sky blue?"))
            process.send_signal(signal.SIGINT)
            output += process.stderr.read()
    lines = output.replace(url, "http://127.0.0.1:8080").splitlines()
    prompt = Text.assemble(("$ ", "green"), ("hfstream mock rules.yaml", "bold"))
    draw([prompt, *map(Text.from_ansi, lines)], "hfstream mock", "mock-terminal")


NGINX = """\
daemon off;
pid nginx.pid;
error_log error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            proxy_ignore_headers X-Accel-Buffering;
        }}
    }}
}}
"""
"""nginx as it is without further settings: the header that hfstream's server sends against this is ignored."""


def doctor(port: int = 8080) -> None:
    """What `hfstream doctor` prints of an nginx before the reference server, at the speed of a larger model."""
    with BackgroundServer(Settings(tokens_per_second=40)) as server, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "nginx.conf").write_text(NGINX.format(port=port, upstream=server.url), encoding="utf-8")
        url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "80", "PYTHONPATH": str(HERE.parents[1])}
        proxy = ["nginx", "-p", folder, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
        with subprocess.Popen(proxy) as process:
            try:
                httpx.Client(transport=httpx.HTTPTransport(retries=10)).get(f"{url}/health").raise_for_status()
                command = [sys.executable, "-m", "hfstream.cli", "doctor", url]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            finally:
                process.terminate()
    prompt = Text.assemble(("$ ", "green"), (f"hfstream doctor {url}", "bold"))
    lines = [*done.stderr.splitlines(), *done.stdout.splitlines()]
    draw([prompt, *map(Text.from_ansi, lines)], "hfstream doctor", "doctor-terminal", 82)


if __name__ == "__main__":
    mock()
    doctor()
