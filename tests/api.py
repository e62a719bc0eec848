"""A stand-in for an OpenAI-compatible API on loopback, which answers in capitals, or as badly as a test plans.

with Api() as api:
    api.plan = [status(429), well]
"""

import json
import threading

from tests.loopback import Handler, Loopback


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


class Api(Loopback):
    """The API. `plan`: functions (handler, request) of the next requests; `usual`: that of all later ones."""

    def __init__(self):
        self.plan, self.requests, self.headers, self.paths = [], [], [], []
        self.usual = well
        self.now = self.most = 0
        self.lock = threading.Lock()
        super().__init__(self._handler())
        self.url = f"{self.endpoint}/v1"

    def asked(self):
        return [request["messages"][-1]["content"] for request in self.requests]

    def _handler(api):  # noqa: N805
        class Answering(Handler):
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

        return Answering


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
