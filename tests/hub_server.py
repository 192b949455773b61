"""A stand-in for the Hugging Face Hub's HTTP API: Spaces that are pushed, data sets that are written and read.

One user, on the loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ME, TOKEN = "ann", "hf_of_ann"
FREE = ("cpu-basic",)


@dataclass
class Space:
    """A Space or a data set, and its one branch."""

    private: bool = False
    hardware: str = "cpu-basic"
    files: dict[str, bytes] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    commits: int = 0


class HubServer(ThreadingHTTPServer):
    """The Hub's state, and what it is to refuse.

    spaces: by "user/name". blobs: what arrived by LFS, by sha256. sent: paths of the requests with a body.
    fail: paths that contain this are answered with the status and message. hang_up: with a closed connection.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.spaces: dict[str, Space] = {}
        self.blobs: dict[str, bytes] = {}
        self.sent: list[str] = []
        self.role = "write"
        self.plan = (*FREE, "zero-a10g")
        self.fail: dict[str, tuple[int, str]] = {}
        self.hang_up = ""
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class Answers(BaseHTTPRequestHandler):
    """One request."""

    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(b"")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        size = self.headers.get("content-length")
        self.answer(self.rfile.read(int(size)) if size else self.chunks())

    do_PUT = do_POST

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, body: bytes) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        if body:
            hub.sent.append(path)
        if hub.hang_up and hub.hang_up in path:
            self.close_connection = True
            self.connection.close()
            return
        status, message = next((bad for part, bad in hub.fail.items() if part in path), (0, ""))
        if status:
            return self.reply(status, {"error": message})
        if path.startswith("/blobs/"):
            hub.blobs[path.removeprefix("/blobs/")] = body
            return self.reply(200, {})
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self.reply(401, {"error": "Invalid username or password."})
        before, _, file = path.partition(f"/resolve/{'0' * 40}/")
        if file:
            content = hub.spaces[before.removeprefix("/datasets/")].files.get(file)
            return self.send_file(content) if content is not None else self.reply(404, {"error": "Entry not found"})
        return self.reply(*self.api(path, body))

    def reply(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if status >= 400:
            message = value["error"]  # type: ignore[index]
            self.send_header("X-Error-Message", message)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        self.wfile.write(data)

    def send_file(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def api(self, path: str, body: bytes) -> tuple[int, object]:
        hub = self.server
        if path == "/api/whoami-v2":
            return 200, {"name": ME, "type": "user", "orgs": [], "auth": {"accessToken": {"role": hub.role}}}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        repo = path.removeprefix("/api").removeprefix("/datasets").removeprefix("/spaces").removeprefix("/")
        owner, name, *what = repo.replace(".git/", "/").split("/")
        space = hub.spaces.get(f"{owner}/{name}")
        if space is None or (space.private and owner != ME):
            return 404, {"error": "Repository not found"}
        if self.command == "GET" and what in ([], ["revision", "main"]):
            files = [{"rfilename": file} for file in space.files]
            return 200, {"id": f"{owner}/{name}", "sha": "0" * 40, "private": space.private, "siblings": files}
        if what[:1] == ["tree"]:
            under = "/".join(what[2:])
            found = {name: content for name, content in space.files.items() if name.startswith(under)}
            return 200, [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in found.items()
            ]
        if self.command != "GET" and owner != ME:
            return 403, {"error": f"You don't have the rights to write to {owner}/{name}"}
        if what == ["runtime"]:
            return 200, {"stage": "RUNNING", "hardware": {"current": space.hardware, "requested": space.hardware}}
        return self.change(space, f"{owner}/{name}", what[0], body)

    def create(self, asked: dict[str, str]) -> tuple[int, object]:
        owner, hardware = asked.get("organization") or ME, asked.get("hardware", "cpu-basic")
        repo = f"{owner}/{asked['name']}"
        if repo in self.server.spaces:
            return 409, {"error": "You already created this repo", "url": f"{self.server.url}/{repo}"}
        if owner != ME:
            return 403, {"error": f'You don\'t have the rights to create a space under the namespace "{owner}"'}
        if hardware not in self.server.plan:
            return 402, {"error": f"Subscribe to PRO to use {hardware} on Spaces"}
        first = {".gitattributes": b"*.safetensors filter=lfs\n", "README.md": b"---\nsdk: gradio\n---\n"}
        self.server.spaces[repo] = Space(asked.get("visibility") == "private", hardware, first)
        return 200, {"url": f"{self.server.url}/spaces/{repo}"}

    def change(self, space: Space, repo: str, what: str, body: bytes) -> tuple[int, object]:
        hub = self.server
        if what == "commit":
            return self.commit(space, repo, body)
        asked = json.loads(body)
        if what == "secrets":
            space.secrets[asked["key"]] = asked["value"]
        elif what == "settings":
            space.private = asked["visibility"] == "private"
        elif what == "hardware":
            if asked["flavor"] not in hub.plan:
                return 403, {"error": "You need a PRO subscription for this hardware"}
            space.hardware = asked["flavor"]
            return 200, {"stage": "BUILDING", "hardware": {"current": None, "requested": space.hardware}}
        elif what == "preupload":
            return 200, {"files": [self.mode(space, file["path"]) for file in asked["files"]]}
        elif what == "info":  # /info/lfs/objects/batch
            return 200, {"transfer": "basic", "objects": [self.upload(one) for one in asked["objects"]]}
        return 200, {}

    def mode(self, space: Space, path: str) -> dict[str, object]:
        lfs, here = path.endswith(".safetensors"), space.files.get(path)
        oid = None
        if here is not None:
            oid = hashlib.sha256(here).hexdigest() if lfs else hashlib.sha1(b"blob %d\0" % len(here) + here).hexdigest()
        return {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": oid}

    def upload(self, wanted: dict[str, object]) -> dict[str, object]:
        if wanted["oid"] in self.server.blobs:
            return wanted
        return {**wanted, "actions": {"upload": {"href": f"{self.server.url}/blobs/{wanted['oid']}"}}}

    def commit(self, space: Space, repo: str, body: bytes) -> tuple[int, object]:
        files = dict(space.files)
        for line in body.splitlines():
            kind, value = (item := json.loads(line))["key"], item["value"]
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
            elif kind == "deletedFolder":
                files = {name: content for name, content in files.items() if not name.startswith(value["path"])}
        space.files, space.commits = files, space.commits + 1
        return 200, {"commitUrl": f"{self.server.url}/spaces/{repo}/commit/{'1' * 40}", "commitOid": "1" * 40}
