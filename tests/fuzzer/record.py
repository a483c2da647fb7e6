"""Stands between a client and the server and writes down what both say, a JSON line a message.

`record.py stdio LOG COMMAND ARGS...` for a client that starts its server;
`record.py http LOG PORT URL` as a server before the server.
"""

import http.client
import json
import subprocess
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()


def note(log, who, text):
    with lock:
        log.write(json.dumps({"who": who, "text": text}) + "\n")
        log.flush()


def stdio(log, command):
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def answers():
        for line in server.stdout:
            note(log, "server", line.decode("utf-8", "replace"))
            try:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                return

    reading = threading.Thread(target=answers)
    reading.start()
    for line in sys.stdin.buffer:
        note(log, "client", line.decode("utf-8", "replace"))
        try:
            server.stdin.write(line)
            server.stdin.flush()
        except BrokenPipeError:
            break
    server.stdin.close()
    reading.join()
    code = server.wait()
    note(log, "end", str(code))
    sys.exit(code)


def serve(log, port, url):
    behind = urllib.parse.urlsplit(url)

    class Between(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
            server = http.client.HTTPConnection(behind.hostname, behind.port, timeout=120)
            server.request(self.command, behind.path, body, headers)
            answer = server.getresponse()
            # A stream is handed on whole, at its end: nobody here looks at progress.
            text = answer.read()
            note(log, "client", body.decode("utf-8", "replace"))
            kind = answer.headers.get("Content-Type") or ""
            if kind.startswith("text/event-stream"):
                for line in text.decode("utf-8", "replace").splitlines():
                    if line.startswith("data: {"):
                        note(log, "server", line.removeprefix("data: "))
            else:
                note(log, "server", text.decode("utf-8", "replace"))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_DELETE = forward

        def do_GET(self):
            # The stream of what nobody asked for never ends, and nothing comes on it.
            self.send_error(405)

        def log_message(self, *_):
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Between).serve_forever()


if __name__ == "__main__":
    mode, path, *rest = sys.argv[1:]
    with open(path, "a", encoding="utf-8") as log:
        if mode == "stdio":
            stdio(log, rest)
        else:
            serve(log, int(rest[0]), rest[1])
