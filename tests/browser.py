"A browser without a driver: Chromium's own protocol over a pipe, with the standard library alone."

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--mute-audio",
    "--remote-debugging-pipe",
]


def chromium() -> str | None:
    "Where the browser is, or None."
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    "One headless Chromium with one page; use it in a `with` block."

    def __init__(self, width: int = 1280, height: int = 900):
        self.size, self.events, self.count, self.buffer = (width, height), [], 0, b""

    def __enter__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self.to = os.pipe()
        self.from_, to_write = os.pipe()

        def plumb():  # Chromium reads commands from file 3 and answers on file 4
            a, b = os.dup(to_read), os.dup(to_write)
            os.dup2(a, 3), os.dup2(b, 4)

        self.log = open(Path(self.profile.name) / "browser.log", "wb")
        self.process = subprocess.Popen(
            [
                chromium(),
                *FLAGS,
                f"--user-data-dir={self.profile.name}/profile",
                f"--window-size={self.size[0]},{self.size[1]}",
                "about:blank",
            ],
            preexec_fn=plumb,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            env={**os.environ, "HOME": self.profile.name},
        )
        os.close(to_read), os.close(to_write)
        page = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable", self.session)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.to), os.close(self.from_), self.log.close()
        self.profile.cleanup()

    def read(self, wait: float) -> dict | None:
        "The next message, or None after `wait` seconds of silence."
        until = time.monotonic() + wait
        while b"\0" not in self.buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.from_], [], [], left)[0]:
                return None
            if not (more := os.read(self.from_, 1 << 20)):
                raise RuntimeError(f"the browser ended: {Path(self.log.name).read_text(errors='replace')[-2000:]}")
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method: str, session: str | None = None, wait: float = 300, **params) -> dict:
        "Send a command and wait for its answer; events that arrive meanwhile are kept."
        self.count += 1
        message = {"id": self.count, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (got := self.read(wait)) is not None:
            if got.get("id") == message["id"]:
                if "error" in got:
                    raise RuntimeError(f"{method}: {got['error']['message']}")
                return got["result"]
            self.events.append(got)
        raise TimeoutError(f"{method}: no answer in {wait} s")

    def open(self, url: str, quiet: float = 0.3, wait: float = 300) -> list[dict]:
        "Open a page, wait until it is loaded and silent; returns what happened meanwhile."
        self.events = []
        self.ask("Page.navigate", self.session, url=url)
        until = time.monotonic() + wait
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            if (got := self.read(until - time.monotonic())) is None:
                raise TimeoutError(f"{url} did not load")
            self.events.append(got)
        while (got := self.read(quiet)) is not None:
            self.events.append(got)
        return self.events

    def value(self, script: str):
        "The value of a JavaScript expression in the page."
        answer = self.ask("Runtime.evaluate", self.session, expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails'].get('exception', answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def screenshot(self, path: Path, whole: bool = False) -> Path:
        "A PNG of the page."
        data = self.ask("Page.captureScreenshot", self.session, format="png", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))
        return Path(path)


def complaints(events: list[dict]) -> list[str]:
    "Errors and warnings of the console, exceptions, failed requests."
    found = []
    for event in events:
        method, p = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = p["exceptionDetails"]
            found.append(f"exception: {details.get('exception', {}).get('description', details['text'])}")
        if method == "Runtime.consoleAPICalled" and p["type"] in ("error", "assert", "warning"):
            found.append(f"console.{p['type']}: {[a.get('value') for a in p['args']]}")
        if method == "Log.entryAdded" and p["entry"]["level"] in ("error", "warning"):
            found.append(f"{p['entry']['source']}: {p['entry']['text']} {p['entry'].get('url', '')}")
        if method == "Network.loadingFailed" and not p.get("canceled"):
            found.append(f"request failed: {p['errorText']}")
    return found


def requests(events: list[dict]) -> list[str]:
    "The addresses the page asked for."
    return [e["params"]["request"]["url"] for e in events if e.get("method") == "Network.requestWillBeSent"]
