"""A discovery service in a few lines, by HTTPS. Arguments: PORT CERTIFICATE KEY FOLDER.

Sends whoever comes back at once, with the entityID that FOLDER/choice holds; nothing in it: without a choice.
"""

import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

PORT, CERTIFICATE, KEY, FOLDER = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        choice = (FOLDER / "choice").read_text().strip()
        back = asked["return"]
        if choice:
            back += ("&" if "?" in back else "?") + asked.get("returnIDParam", "entityID") + "=" + quote(choice, safe="")
        self.send_response(302)
        self.send_header("Location", back)
        self.send_header("Content-Length", "0")
        self.end_headers()


server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
