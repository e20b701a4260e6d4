"""A fake of the Cloud Storage and Dataflow APIs that submitting a job uses, over real HTTP."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c


class GoogleCloud:
    """Serves during the `with` block; every bucket exists, and every job finishes on submission.

    Attributes:
        url: its address, for STORAGE_EMULATOR_HOST and --dataflow_endpoint.
        objects: content of each stored object by its gs:// address.
        jobs: (path, body) of each submitted job.
        tokens: received Authorization headers.
    """

    def __init__(self):
        self.objects = {}
        self.jobs = []
        self.tokens = set()
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                cloud.tokens.add(self.headers.get("Authorization"))
                status, result, headers = cloud.respond(self.command, urlsplit(self.path), body)
                content = json.dumps(result).encode()
                self.send_response(status)
                for name, value in {
                    "Content-Type": "application/json",
                    "Content-Length": len(content),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = answer

        self._server = ThreadingHTTPServer(("localhost", 0), Handler)
        self.url = f"http://localhost:{self._server.server_port}"

    def respond(self, method, url, body):
        """Return (status, JSON, headers) for a request."""
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if "into" in query:  # the content of a resumable upload
            self.objects[query["into"]] = body
            return 200, {"crc32c": crc32c(body)}, {}
        if parts[0] == "upload":  # the start of a resumable upload
            into = f"gs://{parts[-2]}/{json.loads(body)['name']}"
            return 200, {}, {"Location": f"{self.url}/upload?into={into}"}
        if parts[0] == "storage":
            is_bucket = len(parts) == 4
            return (200, {"name": parts[-1]}, {}) if is_bucket else (404, {"error": {"code": 404}}, {})
        if parts[-1] == "messages":
            return 200, {}, {}
        if method == "POST":
            self.jobs.append((url.path, json.loads(body)))
        return 200, {"id": "job-1", "currentState": "JOB_STATE_DONE"}, {}

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()


def crc32c(content):
    """Return the checksum in the format of Cloud Storage."""
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
