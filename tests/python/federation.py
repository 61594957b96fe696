"""A federation's metadata by HTTPS, and what it should never be. Arguments: PORT CERTIFICATE KEY FOLDER.

Serves FOLDER/metadata.xml at the one path that FOLDER/path holds, the way FOLDER/mode says: good, cut (short, and the
length says so), huge (1 GB by its length), endless (chunk after chunk), moved, doctype, broken.
"""

import hashlib
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, CERTIFICATE, KEY, FOLDER = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        mode = (FOLDER / "mode").read_text().strip()
        if self.path != (FOLDER / "path").read_text().strip():
            return self.answer(404, b"no such entity\n")
        document = (FOLDER / "metadata.xml").read_bytes()
        if mode == "broken":
            return self.answer(503, b"later\n")
        if mode == "moved":
            return self.answer(302, b"", {"Location": f"https://127.0.0.1:{PORT}{self.path}"})
        if mode == "huge":
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 30))
            self.end_headers()
            return self.wfile.write(document)
        if mode == "endless":
            return self.endless(document)
        if mode == "cut":
            return self.answer(200, document[: len(document) // 2])
        if mode == "doctype":
            head, root = document.split(b"<md:EntitiesDescriptor", 1)
            return self.answer(200, head + b'<!DOCTYPE x [<!ENTITY y "z">]>' + b"<md:EntitiesDescriptor" + root)
        etag = '"' + hashlib.sha256(document).hexdigest() + '"'
        if self.headers.get("If-None-Match") == etag:
            return self.answer(304, b"", {"ETag": etag})
        self.answer(200, document, {"ETag": etag})

    def answer(self, status, body, fields=None):
        self.send_response(status)
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def endless(self, document):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        filler = b"<!-- " + b" " * (1 << 20) + b"-->"
        chunk = b"%x\r\n%s\r\n" % (len(filler), filler)
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(document), document))
            while True:
                self.wfile.write(chunk)
        except OSError:
            pass


server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
server.daemon_threads = True
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
