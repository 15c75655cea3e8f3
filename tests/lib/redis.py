"""RESP: a client that says exactly what a test wants, and a server whose answers wait where a test wants them to."""
import contextlib
import socket
import threading

from wire import HOST


def command(*words):
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


class Client:
    def __init__(self, port, timeout=10):
        self.sock = socket.create_connection((HOST, port), timeout=timeout)
        self.buffer = b""

    def send(self, raw):
        self.sock.sendall(raw)

    def fill(self):
        more = self.sock.recv(65536)
        if not more:
            raise EOFError(self.buffer)
        self.buffer += more

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def answer(self):
        """One value: bytes, int, None, a list; an error or a simple string as its line."""
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind in b"+-":
            return line.decode("latin1")
        if kind == b":":
            return int(rest)
        if rest == b"-1":
            return None
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        while len(self.buffer) < int(rest) + 2:
            self.fill()
        value, self.buffer = self.buffer[:int(rest)], self.buffer[int(rest) + 2:]
        return value

    def ask(self, *words):
        self.send(command(*words))
        return self.answer()

    def ended(self):
        try:
            while True:
                self.fill()
        except (EOFError, ConnectionResetError):
            return True

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Server:
    """Keeps keys; `scripted` holds what a command is answered instead: bytes, "hang", "close", or an Event that it waits for."""

    def __init__(self):
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self.keys, self.heard, self.scripted, self.connections = {}, [], {}, []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c = Client.__new__(Client)
                c.sock, c.buffer = self.listener.accept()[0], b""
            except OSError:
                return
            self.connections.append(c.sock)
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        try:
            while True:
                words = c.answer()
                self.heard.append(words)
                special = self.scripted.get(words[1] if len(words) > 1 else None)
                if special == "hang":
                    return
                if special == "close":
                    c.sock.shutdown(socket.SHUT_RDWR)
                    return
                if isinstance(special, threading.Event):
                    special.wait(20)
                c.send(special if isinstance(special, bytes) else self.reply(*words))
        except (EOFError, OSError):
            pass

    def reply(self, name, *args):
        name = name.lower()
        if name == b"set":
            self.keys[args[0]] = args[1]
            return b"+OK\r\n"
        if name == b"get":
            v = self.keys.get(args[0])
            return b"$-1\r\n" if v is None else b"$%d\r\n%s\r\n" % (len(v), v)
        if name in (b"del", b"unlink"):
            return b":%d\r\n" % (self.keys.pop(args[0], None) is not None)
        if name in (b"exists", b"touch"):
            return b":%d\r\n" % (args[0] in self.keys)
        return command(name, *args)  # so that a test sees what came

    def close(self):
        for s in (self.listener, *self.connections):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)  # a thread may be reading
            s.close()
