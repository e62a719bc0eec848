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
    """The API. `plan`: functions (handler, request) of the next requests; later ones are answered well."""

    def __init__(self):
        self.plan, self.requests, self.headers, self.paths = [], [], [], []
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
                    step = api.plan.pop(0) if api.plan else well
                try:
                    step(self, request)
                finally:
                    api.now -= 1

        return Answering


def well(handler, request):
    handler.send(body=completion(request["messages"][-1]["content"].upper()))


def status(code, message="no", **headers):
    return lambda handler, request: handler.send(code, {"error": {"message": message}}, **headers)
