"""Two applications that say who they are and what they were asked for."""
import http.server
import threading

import pytest


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            self.server.held.wait(30)
        body = f"{self.server.name} {self.path}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def apps():
    servers = []
    for name in ("v1", "v2"):
        s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
        s.name, s.held, s.daemon_threads = name, threading.Event(), True
        threading.Thread(target=s.serve_forever, daemon=True).start()
        servers.append(s)
    yield servers
    for s in servers:
        s.held.set()
        s.shutdown()
        s.server_close()
