"""A real browser, spoken to over its DevTools protocol: JSON, each message ended by a NUL, through two pipes."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-pipe",
]  # fmt: skip
_LAUNCH = """
import os, sys
reads, writes = (os.dup2(int(file), high) for file, high in zip(sys.argv[1:3], (40, 41)))
os.dup2(reads, 3)
os.dup2(writes, 4)
os.closerange(40, 42)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser reads commands from its file 3 and writes to its file 4. By way of 40: they may be each other's now."""


class Chromium:
    """``with Chromium(directory) as browser: page = browser.page(url)``"""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        reads, self._commands = os.pipe()
        self._answers, writes = os.pipe()
        launch = [sys.executable, "-c", _LAUNCH, str(reads), str(writes), CHROMIUM]
        self._process = subprocess.Popen(
            [*launch, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(reads, writes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._count = 0
        self._rest = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._commands)
            os.close(self._answers)

    def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == self._count:
                assert "error" not in told, (method, told["error"])
                return told["result"]
            self.events.append(told)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._answers], [], [], 120)[0], "the browser says nothing any more"
            piece = os.read(self._answers, 1 << 16)
            assert piece, "the browser has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told

    def page(self, url: str, *, width: int = 1100, height: int = 1000, dark: bool = False) -> Page:
        """A new page, in a context of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, context, session)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url=url)
        page.until("document.readyState === 'complete' && location.href !== 'about:blank'")
        return page


class Page:
    """One page of it: what a reader sees, and what a reader does."""

    def __init__(self, browser: Chromium, context: str, session: str) -> None:
        self._browser, self._context, self._session = browser, context, session

    def call(self, method: str, **params: Any) -> Any:
        return self._browser.call(method, self._session, **params)

    def close(self) -> None:
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)

    def complaints(self) -> list[str]:
        """What the browser has to say against the page: errors, and what its policy forbade."""
        found: list[str] = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"]["exceptionDetails"]))
            # A refused request is an entry too, from "network", and no fault of the page.
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["source"] != "network":
                found.append(event["params"]["entry"]["text"])
        return found

    def __call__(self, expression: str) -> Any:
        """The value of some JavaScript."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def text(self, selector: str) -> str:
        """What can be seen of an element."""
        return str(self(f"document.querySelector({json.dumps(selector)}).innerText"))

    def until(self, condition: str | Callable[[], Any], within: float = 60.0) -> Any:
        """Waits for a condition, in JavaScript or in Python, and returns what it became."""
        end = time.monotonic() + within
        while not (value := self(condition) if isinstance(condition, str) else condition()):
            assert time.monotonic() < end, f"never came true: {condition}"
            time.sleep(0.02)
        return value

    def press(self, *keys: str, shift: bool = False) -> None:
        for key in keys:
            text = {"Enter": "\r", "Space": " "}.get(key, key if len(key) == 1 else "")
            code = {"Enter": 13, "Tab": 9, "Escape": 27, "Space": 32}.get(key, 0)
            name = " " if key == "Space" else key
            held: dict[str, Any] = {"modifiers": 8 if shift else 0, "windowsVirtualKeyCode": code}
            code_name = key if len(key) > 1 else ""
            self.call("Input.dispatchKeyEvent", type="keyDown", key=name, code=code_name, text=text, **held)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=name, code=code_name, **held)

    def write(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def point(self, selector: str, *, click: bool = False) -> None:
        """The pointer goes to the middle of an element, whichever way it may scroll."""
        frame = "await new Promise(requestAnimationFrame);"  # in the next one the page hears that it was scrolled
        x, y = self(
            f"(async () => {{ const found = document.querySelector({json.dumps(selector)});"
            f"found.scrollIntoView({{block: 'nearest'}}); {frame} {frame} const box = found.getClientRects()[0];"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        if click:
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
