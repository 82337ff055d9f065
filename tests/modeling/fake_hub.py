"""A hub on this machine: what huggingface_hub asks the real one over HTTP, answered from a folder."""

import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


class FakeHub:
    """Repositories by id; the requests that were made, and where asked the status that refuses them."""

    def __init__(self) -> None:
        self.repositories: dict[str, Path] = {}
        self.refused: dict[str, tuple[int, str]] = {}  # id -> status and the hub's own error code
        self.downloads: list[str] = []
        self.on_download = lambda name: None

    @contextlib.contextmanager
    def serve(self, monkeypatch, cache: Path):
        """Answer at a port of this machine, and make huggingface_hub use it, with a cache of its own."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

            def log_message(self, *words):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = unquote(urlsplit(request.path).path)
        asked = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = asked or file
        repository, revision = (match[1], match[2] or "main") if match else ("", "")
        if repository in self.refused:
            status, code = self.refused[repository]
            self.reply(request, status, {"X-Error-Code": code, "X-Error-Message": code})
        elif repository not in self.repositories:
            self.reply(request, 404, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", COMMIT):
            self.reply(request, 404, {"X-Error-Code": "RevisionNotFound"})
        elif asked:
            folder = self.repositories[repository]
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            siblings = [{"rfilename": str(f.relative_to(folder)), "size": f.stat().st_size} for f in files]
            content = {"_id": "0", "id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings}
            self.reply(request, 200, {"Content-Type": "application/json"}, json.dumps(content).encode())
        else:
            self.reply_file(request, self.repositories[repository] / file[3], file[3], body)

    def reply_file(self, request: BaseHTTPRequestHandler, path: Path, name: str, body: bool) -> None:
        if not path.is_file():
            self.reply(request, 404, {"X-Error-Code": "EntryNotFound"})
            return
        content = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if span and span[2]:
            part = content[int(span[1]) : int(span[2]) + 1]
            headers["Content-Range"] = f"bytes {span[1]}-{int(span[1]) + len(part) - 1}/{len(content)}"
            self.reply(request, 206, headers, part)
            return
        if body:
            self.downloads.append(name)
            self.on_download(name)
        self.reply(request, 200, headers, content, body)

    def reply(self, request, status: int, headers: dict[str, str], content: bytes = b"", body: bool = True) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if body and request.command != "HEAD":
            request.wfile.write(content)
