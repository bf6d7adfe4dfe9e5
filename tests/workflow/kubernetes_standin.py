"""A stand-in for a Kubernetes cluster: of its API what Snakemake's executor calls, and pods that are processes here.

A pod starts in an empty folder that is also its home, and has none of this process's environment: it knows what its
container's image brings (`image`), and the secrets that its job names. What it has to do it does itself: fetch the
workflow's sources and its inputs from the storage, and take its outputs there.
"""

import base64
import json
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONFIGURATION = """\
apiVersion: v1
kind: Config
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: me, user: {{}}}}]
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
current-context: here
"""


class Pod:
    """The process of a job's only container."""

    def __init__(self, job: dict[str, Any], folder: Path, environment: dict[str, str]):
        self.job = job
        self.log = folder.with_suffix(".log")
        folder.mkdir(parents=True)
        (container,) = job["spec"]["template"]["spec"]["containers"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*container["command"], *container["args"]],
                **{"cwd": folder, "env": environment | {"HOME": str(folder)}, "stdout": log, "stderr": log},
            )

    def as_job(self) -> dict[str, Any]:
        code = self._process.poll()
        status = {"active": 1} if code is None else {"succeeded" if code == 0 else "failed": 1}
        return {**self.job, "status": status}

    def as_pod(self) -> dict[str, Any]:
        code = self._process.poll()
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        container = {"name": "snakemake", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state}
        return {"metadata": {"name": self.job["metadata"]["name"]}, "status": {"containerStatuses": [container]}}

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Cluster:
    """Start with `with Cluster(folder, image) as cluster:`; cluster.configuration is for KUBECONFIG.

    image: environment variables of every pod. All jobs that ran are in cluster.pods.
    """

    def __init__(self, folder: Path, image: dict[str, str]):
        self.pods: dict[str, Pod] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self._folder = folder
        self._image = image
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.configuration = folder / "kubeconfig"

    def __enter__(self) -> "Cluster":
        self._folder.mkdir(parents=True, exist_ok=True)
        self.configuration.write_text(CONFIGURATION.format(port=self._server.server_port))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for pod in self.pods.values():
            pod.stop()

    def start(self, job: dict[str, Any]) -> None:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        named = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container.get("env") or []}
        given = {
            name: base64.b64decode(self.secrets[secret["name"]][secret["key"]]).decode()
            for name, secret in named.items()
        }
        name = job["metadata"]["name"]
        self.pods[name] = Pod(job, self._folder / name, self._image | given)


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/secrets"):
            self.cluster.secrets[body["metadata"]["name"]] = body["data"]
        else:
            self.cluster.start(body)
        self._answer(body)

    def do_GET(self) -> None:
        name = re.search(r"(?:/jobs/|/pods/|job-name(?:=|%3D))([\w-]+)", self.path)[1]
        pod = self.cluster.pods[name]
        if "/jobs/" in self.path:
            self._answer(pod.as_job())
        elif "/log" in self.path:
            self._answer(pod.log.read_text())
        else:
            self._answer({"items": [pod.as_pod()]})

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer({"status": "Success"})

    def _answer(self, content: object) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
