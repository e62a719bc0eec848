"""A stand-in for an OpenAI-compatible API on loopback, which answers in capitals, or as badly as a test plans.

with Api() as api:
    api.plan = [status(429), well]
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text, **more):
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "big-2026",
        "usage": usage,
        "choices": [choice],
        **more,
    }


class Api:
    """The API. `plan`: functions (handler, request) of the next requests; `usual`: that of all later ones."""

    def __init__(self):
        self.plan, self.requests, self.headers, self.paths = [], [], [], []
        self.usual = well
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def asked(self):
        return [request["messages"][-1]["content"] for request in self.requests]

    def _handler(api):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def send(self, code=200, body=b"", kind="application/json", length=None, **headers):
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with api.lock:
                    api.requests.append(request)
                    api.headers.append(self.headers)
                    api.paths.append(self.path)
                    api.now += 1
                    api.most = max(api.most, api.now)
                    step = api.plan.pop(0) if api.plan else api.usual
                try:
                    step(self, request)
                finally:
                    api.now -= 1

        return Handler


def well(handler, request):
    handler.send(body=completion(request["messages"][-1]["content"].upper()))


def status(code, message="no", **headers):
    return lambda handler, request: handler.send(code, {"error": {"message": message}}, **headers)


def judging(handler, request):
    """Judge answers in the demanded form: what equals the reference is right."""
    shown = json.loads(request["messages"][-1]["content"].partition("\n\nYour earlier reply")[0])
    if "answer" in shown:
        right = shown["answer"] == shown["reference"]
        given = {"reason": "compared", "faithfulness": 5 if right else 2, "pass": right}
    else:
        right = [name for name in "AB" if shown[name] == shown["reference"]]
        given = {"reason": "compared", "better": right[0] if len(right) == 1 else "tie"}
    handler.send(body=completion(json.dumps(given)))
