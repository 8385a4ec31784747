"""Debian's Chromium without a screen, driven over its DevTools protocol."""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

from tests.utils.debian import need_program

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
START_S, ANSWER_S = 30, 20


class Browser:
    """One page of a browser; ends the browser it started.

    Parameters
    ----------
    width, height : int
        Of the page [CSS px].
    dark : bool
        What the page is told the reader prefers.

    Attributes
    ----------
    errors : list of str
        Everything that the console called an error, and uncaught exceptions.
    requests : list of str
        Addresses of all that the page asked for.
    """

    def __init__(self, *, width: int = 1_280, height: int = 900, dark: bool = False):
        self.width, self.height, self.dark = width, height, dark
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._next_id = 0
        self._seen: set[str] = set()

    def __enter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [need_program("chromium", *NAMES), *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._socket = connect(self._address(), max_size=None)
            self._attach()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def open(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        self._seen.clear()
        self.send("Page.navigate", url=url)
        self._until(lambda: "Page.loadEventFired" in self._seen)

    def evaluate(self, expression: str, *, wait: bool = False) -> Any:
        """Value of a JavaScript expression; of what it promises with ``wait``."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=wait)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release a key that has no text, such as ``ArrowRight`` (39)."""
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def point(self, selector: str, share: float) -> None:
        """Move the pointer over an element, at a share of its width and half its height."""
        self.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        left, top, width, height = self.evaluate(
            f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [b.left, b.top, b.width, b.height]; })()"
        )
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=left + share * width, y=top + height / 2)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Result of a DevTools command to the page."""
        return self._command(method, params, {"sessionId": self._session})

    # ------------------------------------------------------------------ protocol

    def _address(self) -> str:
        """Address that the browser writes down once it listens."""
        file, deadline = Path(self._profile.name) / "DevToolsActivePort", time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"Chromium ended at once with exit code {self._process.returncode}")
            parts = file.read_text().split() if file.exists() else []
            if len(parts) == 2:
                return f"ws://127.0.0.1:{parts[0]}{parts[1]}"
            time.sleep(0.05)
        raise RuntimeError(f"Chromium did not start within {START_S} s")

    def _attach(self) -> None:
        target = self._command("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._command("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=self.width,
            height=self.height,
            deviceScaleFactor=1,
            mobile=self.width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def _command(self, method: str, params: dict[str, Any], more: dict[str, Any] | None = None) -> dict:
        self._next_id += 1
        wanted = self._next_id
        self._socket.send(json.dumps({"id": wanted, "method": method, "params": params, **(more or {})}))
        while True:
            message = self._receive()
            if message.get("id") == wanted:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def _receive(self) -> dict[str, Any]:
        message = json.loads(self._socket.recv(timeout=ANSWER_S))
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _until(self, condition) -> None:
        while not condition():
            self._receive()

    def _note(self, method: str, params: dict[str, Any]) -> None:
        self._seen.add(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
