"""The proxies' configurations, read by the proxies themselves, and a stream through each of them."""

import http.server
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from deployed import ROOT, free_port, run

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/sbin:/usr/local/sbin")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/usr/local/sbin")


class Gateway(http.server.BaseHTTPRequestHandler):
    """Answers with one event, and the second only once the client has had the first."""

    protocol_version = "HTTP/1.1"
    seen = threading.Event()
    heard = []

    def do_GET(self):
        if self.path == "/ready":
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        Gateway.heard.append(dict(self.headers))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk(b"data: one\n\n")
        if Gateway.seen.wait(30):
            self.chunk(b"data: two\n\n")
        self.chunk(b"")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Proxies(unittest.TestCase):
    def setUp(self):
        Gateway.seen.clear()
        Gateway.heard.clear()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
        # Health checks hang up early.
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.upstream, self.port = server.server_address[1], free_port()

    def start(self, source, check, command):
        """The shipped file, with this test's ports."""
        text = source.read_text()
        for before, after in (
            ("127.0.0.1:8000", f"127.0.0.1:{self.upstream}"),
            ("bind :8080", f"bind 127.0.0.1:{self.port}"),
            ("listen 8080", f"listen 127.0.0.1:{self.port}"),
        ):
            text = text.replace(before, after)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        text = text.replace("/tmp/weir-nginx.pid", f"{folder.name}/nginx.pid")
        path = pathlib.Path(folder.name, source.name)
        path.write_text(text)
        checked = run(*check, path)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        process = subprocess.Popen([*command, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.terminate)

    def request(self, path, headers=""):
        deadline = time.monotonic() + 30
        while True:
            try:
                s = socket.create_connection(("127.0.0.1", self.port), timeout=30)
                s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())
                answer = self.until(s, b"\r\n\r\n")
                # Not until its first health check has been answered.
                if b" 503 " not in answer.split(b"\r\n")[0]:
                    return s, answer
                s.close()
            except OSError:
                pass
            self.assertLess(time.monotonic(), deadline, "the proxy does not answer")
            time.sleep(0.05)

    def until(self, s, mark, had=b""):
        while mark not in had:
            some = s.recv(4096)
            if not some:
                break
            had += some
        return had

    def streams(self):
        s, answer = self.request("/v1/chat/completions", "X-Forwarded-For: 6.6.6.6\r\n")
        with s:
            answer = self.until(s, b"data: one\n\n", answer)
            self.assertIn(b"data: one", answer)
            Gateway.seen.set()
            self.assertIn(b"data: two", self.until(s, b"data: two\n\n", answer))
        (headers,) = Gateway.heard
        forwarded = {k.lower(): v for k, v in headers.items()}["x-forwarded-for"]
        self.assertEqual(forwarded, "127.0.0.1")
        for path in ("/metrics", "/info"):
            s, answer = self.request(path)
            s.close()
            self.assertIn(b" 404 ", answer.split(b"\r\n")[0])

    @unittest.skipUnless(HAPROXY, "no haproxy")
    def test_haproxy(self):
        self.start(ROOT / "deploy/haproxy/haproxy.cfg", [HAPROXY, "-c", "-f"], [HAPROXY, "-db", "-f"])
        self.streams()

    @unittest.skipUnless(NGINX, "no nginx")
    def test_nginx(self):
        daemon = ["-g", "daemon off;"]
        self.start(ROOT / "deploy/nginx/nginx.conf", [NGINX, "-t", "-c"], [NGINX, *daemon, "-c"])
        self.streams()


if __name__ == "__main__":
    unittest.main()
