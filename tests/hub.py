"""A stand-in Hub on loopback: it answers what huggingface_hub and datasets ask, and can break off in the middle.

with Hub() as hub:
    commit = hub.add("datasets", "org/rows", {"data/train.jsonl": b"…"})
    subprocess.run(…, env={**os.environ, **hub.environment})
"""

import hashlib
import json
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback import Handler, Loopback

LARGE = 2**17  # bytes from which a file counts as large, stored outside git


def stored(content):
    """What the API says of a file's content: for a large one, its sha256, too."""
    large = {"lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}
    return {
        "size": len(content),
        "blobId": hashlib.sha1(content).hexdigest(),
        **(large if len(content) > LARGE else {}),
    }


class Hub(Loopback):
    """A Hub with the repositories that `add` gave it. `requests`: (method, path, Range) of what was asked."""

    def __init__(self):
        self.repositories = {}  # (kind, name): {commit: {path: bytes}}
        self.gated = set()
        self.breaks = {}  # path in a repository: bytes that come of each answer before the connection breaks, a list
        self.requests = []
        super().__init__(self._handler())

    @property
    def environment(self):
        """What a client's environment must hold to ask this Hub and no other, without anybody's token."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": "",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def add(self, kind, name, files, gated=False):
        """Add a commit to a repository, `kind` models or datasets; return its hash."""
        commit = hashlib.sha1(repr((kind, name, sorted(files.items()))).encode()).hexdigest()
        self.repositories.setdefault((kind, name), {})[commit] = files
        if gated:
            self.gated.add((kind, name))
        return commit

    def downloads(self, path):
        """Return the Range of each time that a file was asked for; None for the whole of it."""
        return [span for method, asked, span in self.requests if method == "GET" and asked.endswith(f"/{path}")]

    def _handler(hub):  # noqa: N805
        class Answering(Handler):
            def send(self, code, body=b"", headers=(), length=None):
                self.send_response(code)
                for key, value in dict(headers).items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def refuse(self, code, kind):
                self.send(code, json.dumps({"error": kind}).encode(), {"X-Error-Code": kind, "X-Error-Message": kind})

            def answer(self):
                url = urlsplit(self.path)
                path = unquote(url.path).strip("/")
                hub.requests.append((self.command, path, self.headers.get("Range")))
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                steps = path.split("/")
                if steps[0] == "api" and len(steps) >= 4:
                    return self.describe(steps[1], "/".join(steps[2:4]), steps[4:], body)
                kind = steps.pop(0) if steps[0] == "datasets" else "models"
                if len(steps) > 4 and steps[2] == "resolve":
                    return self.resolve(kind, "/".join(steps[:2]), steps[3], "/".join(steps[4:]))
                return self.refuse(404, "EntryNotFound")

            do_GET = do_HEAD = do_POST = answer

            def files(self, kind, name, revision):
                commits = hub.repositories.get((kind, name))
                if commits is None:
                    return self.refuse(404, "RepoNotFound")
                if revision not in commits:
                    return self.refuse(404, "RevisionNotFound")
                return commits[revision]

            def describe(self, kind, name, steps, body):
                """Answer what the API knows: of a repository, its tree, or some of its paths."""
                what = steps[0] if steps else "revision"
                latest = list(hub.repositories.get((kind, name), [""]))[-1]
                revision = steps[1] if len(steps) > 1 and steps[1] != "main" else latest
                files = self.files(kind, name, revision)
                if files is None:
                    return None
                folders = {"/".join(p.split("/")[:n]) for p in files for n in range(1, p.count("/") + 1)}
                under = "/".join(steps[2:])
                blobs = "blobs=true" in self.path.lower()
                if what == "tree":
                    if under and under not in folders:
                        return self.refuse(404, "EntryNotFound")
                    asked = [p for p in [*folders, *files] if not under or p.startswith(f"{under}/")]
                    if "recursive=true" not in self.path.lower():
                        depth = under.count("/") + 1 if under else 0
                        asked = [p for p in asked if p.count("/") == depth]
                elif what == "paths-info":
                    given = json.loads(body) if body.startswith("{") else parse_qs(body)
                    paths = given.get("paths", [])
                    asked = [p for p in ([paths] if isinstance(paths, str) else paths) if p in files or p in folders]
                else:
                    about = {"id": name, "sha": revision, "private": False, "gated": False, "tags": [], "downloads": 0}
                    about["siblings"] = [
                        {"rfilename": path, **(stored(files[path]) if blobs else {})} for path in files
                    ]
                    return self.send(200, json.dumps(about).encode(), {"Content-Type": "application/json"})
                entries = [
                    {"type": "file", "path": p, "size": len(files[p]), "oid": hashlib.sha1(files[p]).hexdigest()}
                    if p in files
                    else {"type": "directory", "path": p, "size": 0, "oid": "0" * 40}
                    for p in sorted(asked)
                ]
                return self.send(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

            def resolve(self, kind, name, revision, path):
                """Send a file, or what is asked of it, or as much as `breaks` lets through."""
                files = self.files(kind, name, revision)
                if files is None:
                    return None
                if (kind, name) in hub.gated:
                    return self.refuse(403, "GatedRepo")
                if path not in files:
                    return self.refuse(404, "EntryNotFound")
                content = files[path]
                headers = {
                    "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                    "X-Repo-Commit": revision,
                    "Accept-Ranges": "bytes",
                }
                start, code = 0, 200
                if span := self.headers.get("Range"):
                    start, code = int(span.removeprefix("bytes=").partition("-")[0]), 206
                    if start >= len(content):
                        return self.send(416)
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                rest = content[start:]
                if self.command == "GET" and hub.breaks.get(path):
                    self.send(code, rest[: hub.breaks[path].pop(0)], headers, length=len(rest))
                    self.close_connection = True
                    return self.connection.shutdown(2)
                return self.send(code, rest, headers)

        return Answering
