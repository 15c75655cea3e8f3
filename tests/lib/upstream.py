"""A scripted HTTP/1 server that records what arrives. The script is a list of steps, one per request; the last one repeats."""
import socket
import threading

from wire import HOST, Malformed, Stream, read_body, read_request, reset


class Step:
    """What to do with one request. `hold` is an Event to wait for before acting (no test sleeps)."""
    hold = None
    early = False  # act before the body was read

    def held(self, event):
        self.hold = event
        return self

    def act(self, stream, request):
        """Returns True when the connection goes on."""
        raise NotImplementedError


class Reply(Step):
    def __init__(self, status=200, body=b"ok", headers=(), close=False, early=False):
        self.status, self.body, self.headers, self.close, self.early = status, body, list(headers), close, early

    def act(self, stream, request):
        head = f"HTTP/1.1 {self.status} X\r\n" + "".join(f"{n}: {v}\r\n" for n, v in self.headers)
        if self.status >= 200 and self.status not in (204, 304):
            head += f"content-length: {len(self.body)}\r\n"
        stream.sock.sendall(head.encode() + b"\r\n" + (b"" if request.method == "HEAD" else self.body))
        return not self.close


class Raw(Step):
    """Exact bytes, then close (or keep open)."""

    def __init__(self, data, close=True, early=False):
        self.data, self.close, self.early = data, close, early

    def act(self, stream, request):
        stream.sock.sendall(self.data)
        return not self.close


class Reset(Step):
    def __init__(self, after=b""):
        self.after = after

    def act(self, stream, request):
        if self.after:
            stream.sock.sendall(self.after)
        reset(stream.sock)
        return False


class Close(Step):
    def act(self, stream, request):
        return False


class Silent(Step):
    """Reads the request from its head on and never answers."""
    early = True

    def act(self, stream, request):
        while stream.sock.recv(65536):
            pass
        return False


class Endless(Step):
    """Sends `total` bytes as fast as they are taken; `sent` counts those that went into the socket."""

    def __init__(self, total):
        self.total, self.sent = total, 0

    def act(self, stream, request):
        stream.sock.sendall(f"HTTP/1.1 200 X\r\ncontent-length: {self.total}\r\n\r\n".encode())
        block = b"e" * 65536
        while self.sent < self.total:
            self.sent += stream.sock.send(block[:self.total - self.sent])
        return True


class Upstream:
    def __init__(self, name="up", script=None):
        self.name, self.script = name, list(script or [Reply()])
        self.requests, self.errors, self.connections = [], [], 0
        self.lock = threading.Lock()
        self.listener = socket.create_server((HOST, 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.socks = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self.socks.add(s)
                number = self.connections
            threading.Thread(target=self._serve, args=(s, number), daemon=True).start()

    def _step(self):
        with self.lock:
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def _serve(self, sock, number):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = Stream(sock)
        try:
            while True:
                request = read_request(stream, 120)
                request.connection = number
                step = self._step()
                if step.early:
                    self.requests.append(request)
                    if not step.act(stream, request):
                        break
                    read_body(request, stream, 30)
                    continue
                try:
                    read_body(request, stream, 30)
                except EOFError:
                    request.framing = "cut"
                    self.requests.append(request)
                    break
                self.requests.append(request)
                if step.hold:
                    step.hold.wait(30)
                if not step.act(stream, request):
                    break
        except Malformed as e:
            self.errors.append(str(e))
        except (EOFError, OSError):
            if stream.buf:
                self.errors.append(f"unfinished head {stream.buf[:200]!r}")
        finally:
            with self.lock:
                self.socks.discard(sock)
            try:
                sock.close()
            except OSError:
                pass

    def close(self):
        """Stops listening and closes every connection."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.lock:
            for s in list(self.socks):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
