import socket

import pytest
from tcp import Tcp
from wire import HOST, Stream


@pytest.fixture
def tcp(mesh):
    t = Tcp(mesh)
    yield t
    t.close()


@pytest.fixture
def dial():
    """dial(proxy) connects a client and gives its Stream."""
    socks = []

    def connect(px, rcvbuf=0):
        s = socket.socket()
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        s.connect((HOST, px.port))
        socks.append(s)
        return Stream(s)
    yield connect
    for s in socks:
        s.close()
