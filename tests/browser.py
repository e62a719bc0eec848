"""A headless Chromium with one page, driven by the Chrome DevTools Protocol through pipes: no package, no port."""

import base64
import json
import os
import shutil
import subprocess
import time

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"]
PATIENCE = 60  # seconds until something that does not happen is a failure
KEYS = {"ArrowLeft": (37, ""), "ArrowRight": (39, ""), "Enter": (13, "\r"), "Tab": (9, "")}  # others are characters


class Browser:
    """`events`: what the page did; `folder`: where its downloads go."""

    def __init__(self, folder):
        self.folder, self.events, self.number, self.session, self.buffer = folder, [], 0, None, b""
        (its_input, self.input), (self.output, its_output) = os.pipe(), os.pipe()

        def wire():
            os.dup2(its_input, 3)  # the descriptors that Chromium reads from and writes to
            os.dup2(its_output, 4)

        command = [PROGRAM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, preexec_fn=wire, pass_fds=(3, 4), **quiet)
        os.close(its_input)
        os.close(its_output)
        os.set_blocking(self.output, False)
        (target,) = [t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), session=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()  # a page may object to being closed
        self.process.wait(PATIENCE)
        os.close(self.input)
        os.close(self.output)

    def read(self, wanted):
        """Read messages until one is wanted; return it. The others are kept as events."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            message, found, rest = self.buffer.partition(b"\0")
            if not found:
                try:
                    self.buffer += os.read(self.output, 1 << 20)
                except BlockingIOError:
                    assert self.process.poll() is None, "Chromium has ended"
                    time.sleep(0.005)
                continue
            self.buffer = rest
            message = json.loads(message)
            if wanted(message):
                return message
            self.events.append(message)
        raise TimeoutError("Chromium does not answer")

    def send(self, method, session=True, **params):
        """Send a command to the page (or, with `session=None`, to the browser); return its result."""
        self.number += 1
        number = self.number
        command = {"id": number, "method": method, "params": params}
        if session and self.session:
            command["sessionId"] = self.session
        os.write(self.input, json.dumps(command).encode() + b"\0")
        answer = self.read(lambda message: message.get("id") == number)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path):
        """Open a file, or open it anew, and wait until it is loaded."""
        seen = len(self.events)
        self.send("Page.navigate", url=path.as_uri())
        if not any(event.get("method") == "Page.loadEventFired" for event in self.events[seen:]):
            self.read(lambda message: message.get("method") == "Page.loadEventFired")

    def run(self, script, wait=False):
        """Return the value of a JavaScript expression in the page; `wait`: for what it promises."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=wait)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, *keys):
        """Press keys, one after the other, as a person would."""
        for key in keys:
            code, text = KEYS[key] if key in KEYS else (ord(key.upper()), key)
            both = {"key": key, "windowsVirtualKeyCode": code}
            self.send("Input.dispatchKeyEvent", type="keyDown", **both, text=text)
            self.send("Input.dispatchKeyEvent", type="keyUp", **both)

    def show(self, width, height=800, dark=False):
        """Set the size of the window, and whether the system is dark."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def go_offline(self):
        """Let no request leave the browser."""
        self.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

    def picture(self, path):
        """Save a picture of the window."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def downloaded(self, name):
        """Wait for a download; return its path."""
        end = time.monotonic() + PATIENCE
        while not (self.folder / name).is_file():
            assert time.monotonic() < end, f"no {name}: {sorted(self.folder.iterdir())}"
            time.sleep(0.02)
        return self.folder / name

    def complaints(self):
        """Return what the page wrote to the console, errors, and each address that it asked for besides itself."""
        self.run("0")  # events before this answer have arrived
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                found.append(params)
            elif method == "Network.requestWillBeSent" and params["type"] != "Document":
                found.append(params["request"]["url"])
        return found
