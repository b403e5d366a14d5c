"""A headless Chromium driven over a pipe by the DevTools protocol: what it loads, says, lays out and prints.

The protocol over a pipe is JSON with a zero byte after every message, read by the browser from file
descriptor 3 and written to 4 (https://chromedevtools.github.io/devtools-protocol, --remote-debugging-pipe).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

SECONDS = 60.0
"""How long an answer may take; a machine that tests in parallel is slow."""
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
DESKTOP, TABLET, PHONE = 1280, 768, 360
"""Widths of windows in CSS pixels."""
MARGIN = 16
A4 = {"paperWidth": 8.27, "paperHeight": 11.69}
"""Inches."""


def installed() -> str | None:
    """Path of Chromium, where it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """One running browser."""

    def __init__(self, program: str, folder: Path) -> None:
        """Starts *program* with its profile and its log in *folder*."""
        read_by_it, self._input = _pipe()
        self._output, written_by_it = _pipe()
        log = os.open(folder / "chromium.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        self._pid = os.posix_spawn(
            program,
            [program, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, read_by_it, 3),
                (os.POSIX_SPAWN_DUP2, written_by_it, 4),
            ],
            setpgroup=0,
        )
        for end in (read_by_it, written_by_it, log):
            os.close(end)
        self._sent = 0
        self._rest = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the browser and whatever it started."""
        for end in (self._input, self._output):
            os.close(end)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def command(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The browser's answer to *method*; events that come before it are kept."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._input, data) :]
        deadline = time.monotonic() + SECONDS
        while True:
            found = self._next(deadline, method)
            if found.get("id") != self._sent:
                self.events.append(found)
                continue
            if "error" in found:
                raise RuntimeError(f"{method}: {found['error']['message']}")
            result: dict[str, Any] = found["result"]
            return result

    def wait(self, session: str, ended: Callable[[Mapping[str, Any]], bool]) -> None:
        """Reads events until one of *session* is what *ended* looks for."""
        deadline = time.monotonic() + SECONDS
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event.get("sessionId") == session and ended(event):
                    return
            seen = len(self.events)
            self.events.append(self._next(deadline, "an event"))

    def _next(self, deadline: float, awaited: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._output], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"Chromium did not answer in {SECONDS:.0f} s: {awaited}")
            piece = os.read(self._output, 1 << 20)
            if not piece:
                raise RuntimeError(f"Chromium ended while it was asked for {awaited}")
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    @contextlib.contextmanager
    def visit(
        self,
        url: str,
        *,
        width: int = DESKTOP,
        dark: bool = False,
        scripts: bool = True,
        policy: bool = True,
    ) -> Iterator[Visit]:
        """A page, loaded in a fresh tab.

        Args:
            url: Its address.
            width: Of the window in CSS pixels.
            dark: Whether the reader prefers dark colours.
            scripts: Whether the page may run JavaScript.
            policy: Whether the page's content policy is in force; without it, a checker can be put in.
        """
        context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command("Target.createTarget", url="about:blank", browserContextId=context)
        session = self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        try:
            visit = Visit(self, session["sessionId"])
            for domain in ("Page", "Network", "Runtime", "Log"):
                visit.command(f"{domain}.enable")
            visit.resize(width)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            visit.command("Emulation.setEmulatedMedia", features=[scheme])
            visit.command("Emulation.setScriptExecutionDisabled", value=not scripts)
            visit.command("Page.setBypassCSP", enabled=not policy)
            visit.load(url)
            yield visit
        finally:
            self.command("Target.disposeBrowserContext", browserContextId=context)


class Visit:
    """A page in its tab."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.command(method, self._session, **parameters)

    def load(self, url: str) -> None:
        """Goes to *url* and waits until all of it is there."""
        problem = self.command("Page.navigate", url=url).get("errorText")
        if problem:
            raise RuntimeError(f"{url}: {problem}")
        self._browser.wait(self._session, lambda event: event["method"] == "Page.loadEventFired")
        self.ask("1")

    def resize(self, width: int) -> None:
        """Makes the window *width* CSS pixels wide; a narrow one is a phone's."""
        phone = width < 600
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=780 if phone else 900,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript *expression*, asked by the debugger rather than by the page."""
        found = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def _of(self, method: str) -> list[dict[str, Any]]:
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] == method
        ]

    @property
    def said(self) -> list[str]:
        """Whatever stood on the console: messages, exceptions, what could not be loaded or was refused."""
        return [
            *(entry["entry"]["text"] for entry in self._of("Log.entryAdded")),
            *(json.dumps(call["args"]) for call in self._of("Runtime.consoleAPICalled")),
            *(json.dumps(thrown["exceptionDetails"]) for thrown in self._of("Runtime.exceptionThrown")),
        ]

    @property
    def answers(self) -> dict[str, int]:
        """Status by address of all that the page loaded; 0 where loading failed."""
        asked = {sent["requestId"]: sent["request"]["url"] for sent in self._of("Network.requestWillBeSent")}
        found = {got["requestId"]: got["response"]["status"] for got in self._of("Network.responseReceived")}
        found |= {failed["requestId"]: 0 for failed in self._of("Network.loadingFailed")}
        own = {request: url for request, url in asked.items() if not url.endswith("/favicon.ico")}
        return {url: found.get(request, 0) for request, url in own.items()}

    def print(self) -> bytes:
        """The page as a PDF file on A4."""
        printed = self.command("Page.printToPDF", **A4, printBackground=False)
        return base64.b64decode(printed["data"])

    def picture(self, selector: str = "html", *, height: float | None = None) -> bytes:
        """A PNG of the first element that *selector* finds and the margin around it.

        Args:
            selector: Of CSS.
            height: At most so many CSS pixels are shown.
        """
        found = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        box = self.ask(
            f"(r => ({{x: 0, y: Math.max(0, r.y + scrollY - {MARGIN}), "
            f"width: document.documentElement.clientWidth, height: r.height + {MARGIN}}}))({found})"
        )
        clip = {**box, "height": min(box["height"], height or box["height"]), "scale": 1}
        shot = self.command("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


def _pipe() -> tuple[int, int]:
    """The two ends of a pipe, above the descriptors that the browser is given."""
    found = os.pipe()
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in found]
    for end in found:
        os.close(end)
    return ends[0], ends[1]
