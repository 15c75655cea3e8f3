"""A network namespace of the test's own, with netfilter rules: traffic is caught there as in a pod.

The calling thread moves into it, and with it every thread and process that it starts afterwards.
"""
import ctypes
import errno
import os
import shutil
import socket
import subprocess
import threading

import pytest

from wire import Stream, patient, until

CLONE_NEWNET = 0x40000000
TOOLS = ("ip", "iptables", "ip6tables")
WHY = "needs CAP_NET_ADMIN and CAP_SYS_ADMIN: run as root or within `unshare -Urn`"


def _sys(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Netns:
    """Its loopback is up; 10.1.0.0/16, 10.2.0.0/16 and fd00::/64 are local there."""

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _sys(self.libc.unshare(CLONE_NEWNET))
        except OSError:
            os.close(self.before)
            raise
        self.run("ip link set lo up")
        for address in ("10.1.0.1/16", "10.2.0.1/16", "fd00::1/64"):
            self.add(address)

    def run(self, command):
        r = subprocess.run(command.split(), capture_output=True, text=True)
        assert r.returncode == 0, f"{command}: {r.stderr}"

    def add(self, address):
        """Gives this machine an address; the kernel's route to one of IPv6 comes a moment later."""
        ip = address.partition("/")[0]
        self.run(f"ip addr add {address} dev lo" + (" nodad" if ":" in ip else ""))

        def routed():
            with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as s:
                return s.connect_ex((ip, 9)) == errno.ECONNREFUSED  # nobody is there, but "there" is here
        until(routed, 5, f"a route to {ip}")

    def redirect(self, to, ports, port, six=False, mark=1337):
        """Connections to the network `to` go to `port` of this machine (REDIRECT), unless they carry the mark."""
        self.run(f"{'ip6tables' if six else 'iptables'} -t nat -A OUTPUT -p tcp -d {to} --dport {ports} -m mark ! --mark {mark} -j REDIRECT --to-ports {port}")

    def tproxy(self, to, ports, port, six=False, mark=1337):
        """The same by TPROXY: locally made packets are marked, routed to loopback and there given to the socket on `port`."""
        tables, zero = ("ip6tables", "::/0") if six else ("iptables", "0.0.0.0/0")
        six = " -6" if six else ""
        match = f"-p tcp -d {to} --dport {ports} -m mark"
        self.run(f"{tables} -t mangle -A OUTPUT {match} ! --mark {mark} -j MARK --set-mark 1")
        self.run(f"{tables} -t mangle -A PREROUTING {match} --mark 1 -j TPROXY --on-port {port} --tproxy-mark 1")
        self.run(f"ip{six} rule add fwmark 1 lookup 100 pref 1")
        self.run(f"ip{six} route add local {zero} dev lo table 100")

    def close(self):
        try:
            _sys(self.libc.setns(self.before, CLONE_NEWNET))
        finally:
            os.close(self.before)


@pytest.fixture
def netns():
    missing = [t for t in TOOLS if not shutil.which(t)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    try:
        n = Netns()
    except OSError as e:
        pytest.skip(f"{WHY} ({e.strerror})")
    yield n
    n.close()


def server(ip, port=0):
    return socket.create_server((ip, port), family=socket.AF_INET6 if ":" in ip else socket.AF_INET)


class Plain:
    """Answers each request on ip:port with its own name, and closes; remembers where its connections came from."""

    def __init__(self, ip, port=0, name="plain!"):
        self.listener, self.name, self.peers = server(ip, port), name.encode(), []
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                s, peer = self.listener.accept()
            except OSError:
                return
            self.peers.append(peer[0])
            threading.Thread(target=self._serve, args=(Stream(s),), daemon=True).start()

    def _serve(self, stream):
        try:
            stream.until(b"\r\n\r\n", 30)
            stream.sock.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(self.name), self.name))
        except (EOFError, OSError):
            pass
        finally:
            stream.sock.close()

    def close(self):
        """The thread ends first: the descriptor's number may be another's listener a moment later."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


def ask(ip, port, source=None):
    """The body of the answer to one request to ip:port; b"" where the connection just ended."""
    with socket.create_connection((ip, port), timeout=patient(5), source_address=(source, 0) if source else None) as s:
        try:
            s.sendall(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
            got = b""
            while not got.endswith(b"!"):
                more = s.recv(4096)
                if not more:
                    break
                got += more
        except ConnectionError:
            return b""
        return got.rpartition(b"\r\n\r\n")[2]
