"""A small in-memory S3 service over HTTP: objects, copies, listings and conditional creates."""

import threading
from email.utils import formatdate
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"


class S3Server:
    """Runs during the `with` block.

    Args:
        names_condition: whether a failed precondition includes the header name, as in AWS but not in MinIO.
    """

    def __init__(self, names_condition=True):
        self.names_condition = names_condition
        self.objects = {}
        self.conflicts = 0  # number of next conditional creates to reject with 409
        self.creates = []  # (key, status) of each conditional create
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=30)

    def create(self, key, content):
        """Create an object unless it exists; return (status, code, condition)."""
        with self.lock:
            if self.conflicts:
                self.conflicts -= 1
                answer = 409, "ConditionalRequestConflict", ""
            elif key in self.objects:
                answer = 412, "PreconditionFailed", "If-None-Match" if self.names_condition else ""
            else:
                self.objects[key] = content
                answer = 200, "", ""
            self.creates.append((key, answer[0]))
            return answer


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # otherwise each response waits for the acknowledgement of its headers

        def log_message(self, *arguments):
            pass

        def do_PUT(self):
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if (source := self.headers.get("x-amz-copy-source")) is not None:
                self._copy(unquote(source).lstrip("/"))
                return
            if self.headers.get("If-None-Match") == "*":
                status, code, condition = server.create(self._key(), content)
                if status != 200:
                    self._error(status, code, condition)
                    return
            else:
                server.objects[self._key()] = content
            self._answer(200, headers={"ETag": _etag(content)})

        def _copy(self, source):
            content = server.objects.get(source)
            if content is None:
                self._error(404, "NoSuchKey")
                return
            server.objects[self._key()] = content
            self._xml(200, f"<CopyObjectResult><ETag>{escape(_etag(content))}</ETag></CopyObjectResult>")

        def do_GET(self):
            query = parse_qs(urlsplit(self.path).query)
            if "list-type" in query:
                self._listing(query)
            else:
                self._object()

        def do_HEAD(self):
            self._object()

        def do_DELETE(self):
            server.objects.pop(self._key(), None)
            self._answer(204)

        def _key(self):
            return unquote(urlsplit(self.path).path).lstrip("/")

        def _object(self):
            content = server.objects.get(self._key())
            if content is None:
                self._error(404, "NoSuchKey")
                return
            headers = {"ETag": _etag(content), "Last-Modified": formatdate(usegmt=True)}
            requested = self.headers.get("Range")
            if requested is None:
                self._answer(200, content, headers)
                return
            first, last = (int(part) for part in requested.removeprefix("bytes=").split("-"))
            last = min(last, len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self._answer(206, content[first : last + 1], headers)

        def _listing(self, query):
            prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
            bucket = self._key().rstrip("/")
            files, folders = [], set()
            for name, content in sorted(server.objects.copy().items()):
                key = name.removeprefix(bucket + "/")
                if not name.startswith(bucket + "/") or not key.startswith(prefix):
                    continue
                rest = key[len(prefix) :]
                if delimiter and delimiter in rest:
                    folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                else:
                    files.append(
                        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                        f"<ETag>{escape(_etag(content))}</ETag><Size>{len(content)}</Size></Contents>"
                    )
            common = [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)]
            self._xml(200, f"<ListBucketResult>{''.join(files + common)}</ListBucketResult>")

        def _error(self, status, code, condition=""):
            condition_element = f"<Condition>{condition}</Condition>" if condition else ""
            message = {412: "At least one of the pre-conditions you specified did not hold"}.get(status, code)
            self._xml(status, f"<Error><Code>{code}</Code><Message>{message}</Message>{condition_element}</Error>")

        def _xml(self, status, text):
            content = f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()
            self._answer(status, content, {"Content-Type": "application/xml"})

        def _answer(self, status, content=b"", headers=None):
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": len(content)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler


def _etag(content):
    return f'"{md5(content).hexdigest()}"'
