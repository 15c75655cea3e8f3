"""redis_proxy (row L5): commands go to the hosts that have their keys, answers come back in the order of the commands."""
import contextlib
import shutil
import socket
import subprocess
import threading

import config
import pytest
from redis import Client, Server, command
from wire import HOST, free_port, until

TYPE = "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy"


@pytest.fixture
def redis(mesh):
    """redis(n, **fields): a proxy with one cluster of each of n servers, "c0" and so on."""
    servers = []

    def start(n=1, clusters=None, settings=None, routes=None, **fields):
        servers.extend(Server() for _ in range(n))
        mine = servers[len(servers) - n:]
        f = config.ext("envoy.filters.network.redis_proxy", TYPE, stat_prefix="r", settings={"op_timeout": "5s", **(settings or {})},
                       prefix_routes=routes or {"catch_all_route": {"cluster": "c0"}}, **fields)
        cs = clusters(mine) if clusters else [config.cluster(f"c{i}", [s.port], lb_policy="MAGLEV") for i, s in enumerate(mine)]
        return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [f])], cs, free_port())), mine
    yield start
    for s in servers:
        s.close()


def counted(px, prefix="redis.r."):
    return {k.removeprefix(prefix): v for k, v in px.stats("^" + prefix).items() if v and "bytes" not in k}


ANSWERS = [  # as the real Envoy answered them
    (command("PiNG"), "+PONG"), (b"PING\r\n", "+PONG"), (command("echo", "hey"), b"hey"), (command("echo", "a", "b"), "-invalid request"),
    (b"*0\r\n", "-invalid request"), (b":5\r\n", "-invalid request"), (b"*1\r\n*1\r\n$1\r\na\r\n", "-invalid request"),
    (command("get"), "-invalid request"), (b"*2\r\n$3\r\nget\r\n+a\r\n", "-invalid request"),
    (command("nosuch", "a", "b"), "-ERR unknown command 'nosuch', with args beginning with: a"),
    (command("n\r\nX", "a"), "-ERR unknown command 'n  X', with args beginning with: a"),
    (command("auth", "x"), "-ERR Client sent AUTH, but no password is set"),
    (command("auth", "u", "x"), "-ERR Client sent AUTH, but no username-password pair is set"), (command("auth"), "-invalid request"),
    (command("mset", "a"), "-wrong number of arguments for 'mset' command"), (command("eval", "s", "1"), "-wrong number of arguments for 'eval' command"),
    (command("object", "encoding"), "-wrong number of arguments for 'object' command"),
    (command("mset", "a", "1", "b", "2"), "+OK"), (command("mget", "a", "none", "b"), [b"1", None, b"2"]), (command("get", "a"), b"1"),
    (b'set "a b" c\r\n', "+OK"), (command("get", "a b"), b"c"), (command("exists", "a", "b", "c"), 2), (command("DEL", "a", "b", "c"), 2),
    (command("eval", "s", "1", "k"), [b"eval", b"s", b"1", b"k"]), (command("hset", "h", "f", "v"), [b"hset", b"h", b"f", b"v"]),
]


def test_commands(redis):
    px, servers = redis(latency_in_micros=True)
    with Client(px.port) as c:
        for raw, answer in ANSWERS:
            c.send(raw)
            assert c.answer() == answer, raw
        c.send(b"".join(raw for raw, _ in ANSWERS))  # all at once
        assert [c.answer() for _ in ANSWERS] == [a for _, a in ANSWERS]
        c.send(command("quit"))
        assert c.answer() == "+OK" and c.ended()
    assert len(servers[0].connections) == 1
    s = counted(px)
    assert s["splitter.invalid_request"] == 14 and s["splitter.unsupported_command"] == 4
    assert s["command.get.total"] == s["command.get.success"] == 4 and s["command.mset.error"] == 2 and s["command.mset.success"] == 2
    assert s["command.del.success"] == 2 and s["command.eval.error"] == 2 and s["command.object.error"] == 2
    assert s["downstream_rq_total"] == 2 * len(ANSWERS) + 1 and "downstream_rq_active" not in s and s["downstream_cx_total"] == 1
    # get, set, del and so on of each key; single commands
    assert px.stat("cluster.c0.upstream_rq_total") == 2 * (2 + 3 + 1 + 1 + 1 + 3 + 3 + 1 + 1) and px.stat("cluster.c0.upstream_rq_active") == 0


def test_broken_client(redis):
    px, _ = redis()
    for raw in (b"*x\r\n", b"*1\r\n$4\r\nPINGxx", b"*99999999999999999999999\r\n", b"*-5\r\n", b"*1\r\n" * 300, b"\0\1\r\n"):
        with Client(px.port) as c:
            c.send(command("ping") + raw)
            assert [c.answer(), c.answer()] == ["+PONG", "-downstream protocol error"] and c.ended(), raw
    assert px.stat("redis.r.downstream_cx_protocol_error") == 6
    until(lambda: px.stat("redis.r.downstream_cx_active") == 0, 5, "connections ended")


def test_routes(redis):
    px, (rest, users, reads, copy) = redis(4, routes={"routes": [
        {"prefix": "user:", "cluster": "c1", "remove_prefix": True, "read_command_policy": {"cluster": "c2"}},
        {"prefix": "user:vip:", "cluster": "c0", "request_mirror_policy": [{"cluster": "c3", "exclude_read_commands": True}, {
            "cluster": "c2", "runtime_fraction": {"default_value": {"numerator": 0}}}]}, {"prefix": "gone:", "cluster": "nowhere"}]})
    with Client(px.port) as c:
        assert c.ask("set", "user:1", "a") == "+OK" and users.keys == {b"1": b"a"}
        reads.keys[b"1"] = b"from the reader"
        assert c.ask("get", "user:1") == b"from the reader"
        assert c.ask("set", "user:vip:1", "b") == "+OK" and rest.keys == {b"user:vip:1": b"b"}
        assert c.ask("get", "user:vip:1") == b"b"
        until(lambda: copy.heard == [[b"set", b"user:vip:1", b"b"]], 5, "writes are mirrored")
        assert c.ask("get", "other") == c.ask("get", "gone:1") == "-no upstream host"
        assert c.ask("mget", "other", "user:1", "gone:2") == ["-no upstream host", b"from the reader", "-no upstream host"]
        assert c.ask("del", "other", "user:1") == "-finished with 1 error(s)"
    s = counted(px)
    assert s["command.get.error"] == 2 and s["command.mget.error"] == 1 and s["command.del.error"] == 1
    assert [w[0] for w in reads.heard] == [b"get", b"get"]


def test_any_case(redis):
    px, (_, other) = redis(2, routes={"case_insensitive": True, "routes": [{"prefix": "Ab", "cluster": "c1"}], "catch_all_route": {"cluster": "c0"}})
    with Client(px.port) as c:
        assert c.ask("set", "aBc", "1") == "+OK" and other.keys == {b"aBc": b"1"}


def test_keys_are_spread_and_hash_tags_keep_them_together(redis):
    def one(servers):
        return [config.cluster("c0", [s.port for s in servers], lb_policy="RING_HASH")]
    px, servers = redis(3, clusters=one, settings={"enable_hashtagging": True, "enable_command_stats": True})
    with Client(px.port) as c:
        assert c.ask("mset", *[w for i in range(60) for w in (f"key{i}", i)]) == "+OK"
        assert all(s.keys for s in servers) and sum(len(s.keys) for s in servers) == 60
        assert c.ask("mget", *[f"key{i}" for i in range(60)]) == [b"%d" % i for i in range(60)]
        assert c.ask("mset", *[w for i in range(20) for w in (f"{{tag}}{i}", i)]) == "+OK"
        assert sum(any(k.startswith(b"{tag}") for k in s.keys) for s in servers) == 1
    up = "cluster.c0.redis_cluster.upstream_commands."
    assert px.stat(up + "set.total") == px.stat(up + "set.success") == 80 and px.stat(up + "get.success") == 60


def test_order_of_answers(redis):
    """Answers of a fast server wait for those of a slow one; another client does not."""
    px, (slow, _) = redis(2, routes={"routes": [{"prefix": "s", "cluster": "c0"}], "catch_all_route": {"cluster": "c1"}})
    gate = slow.scripted[b"s"] = threading.Event()
    with Client(px.port) as c, Client(px.port) as d:
        c.send(command("get", "s") + command("set", "f", "1") + command("ping"))
        until(lambda: slow.heard, 5, "the slow one was asked")
        until(lambda: d.ask("get", "f") == b"1", 5, "the fast one has served")
        assert not c.buffer
        gate.set()
        assert [c.answer() for _ in range(3)] == [None, "+OK", "+PONG"]


def test_clients_share_a_connection(redis):
    px, (server,) = redis()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(px.port)) for _ in range(8)]
        for i, c in enumerate(clients):
            c.send(command("set", f"k{i}", i) + command("get", f"k{i}"))
        assert [[c.answer(), c.answer()] for c in clients] == [["+OK", b"%d" % i] for i in range(8)]
    with Client(px.port) as c:  # the connection outlives its clients
        assert c.ask("get", "k3") == b"3"
    assert len(server.connections) <= int(px.stat("server.concurrency"))


def test_client_that_goes(redis):
    """What it asked for is cancelled; the answer finds nobody, and the next client gets its own."""
    px, (server,) = redis()
    gate = server.scripted[b"a"] = threading.Event()
    with Client(px.port) as c:
        c.send(command("get", "a"))
        until(lambda: server.heard, 5, "asked")
    until(lambda: px.stat("redis.r.downstream_cx_active") == 0, 5, "gone")
    gate.set()
    until(lambda: px.stat("cluster.c0.upstream_rq_cancelled") == 1, 5, "cancelled")
    with Client(px.port) as d:
        assert d.ask("echo", "x") == b"x" and d.ask("set", "b", "1") == "+OK"
    assert px.stat("cluster.c0.upstream_rq_active") == 0 and px.stat("redis.r.downstream_rq_active") == 0


def test_server_that_fails(redis):
    px, (server,) = redis()
    with Client(px.port) as c:
        server.scripted[b"a"] = "close"
        assert c.ask("get", "a") == "-upstream failure"
        assert c.ask("set", "b", "1") == "+OK"  # a new connection
        server.scripted[b"a"] = b"!what\r\n"
        assert c.ask("get", "a") == "-upstream failure" and px.stat("cluster.c0.upstream_cx_protocol_error") == 1
        server.scripted[b"a"] = b"-ERR its own\r\n"
        assert c.ask("get", "a") == "-ERR its own"  # an answer like any other
        server.scripted[b"a"] = b"*1\r\n:1\r\n"
        assert c.ask("mget", "a", "b") == ["-upstream protocol error", b"1"]
        server.close()
        until(lambda: c.ask("get", "b") == "-upstream failure", 5, "refused")
        assert c.ask("mset", "a", "1", "b", "2") == "-finished with 2 error(s)"
    assert counted(px)["command.get.error"] >= 3 and px.stat("cluster.c0.upstream_cx_connect_fail") >= 1


@pytest.mark.stricter  # the real one may take it for the next command's
def test_answer_that_nobody_asked_for(redis):
    px, (server,) = redis()
    server.scripted[b"a"] = b"$1\r\nx\r\n+more\r\n"
    with Client(px.port) as c:
        assert c.ask("get", "a") == b"x"
        until(lambda: px.stat("cluster.c0.upstream_cx_protocol_error") == 1, 5, "noticed")
        assert c.ask("set", "b", "1") == "+OK"


def test_op_timeout(redis):
    px, (server,) = redis(settings={"op_timeout": "0.3s"})
    server.scripted[b"a"] = "hang"
    with Client(px.port) as c:
        c.send(command("get", "a") + command("get", "b"))
        assert [c.answer(), c.answer()] == ["-upstream failure"] * 2  # both were on that connection
        assert c.ask("set", "c", "1") == "+OK"
    assert px.stat("cluster.c0.upstream_rq_timeout") == 1 and px.stat("cluster.c0.upstream_cx_total") == 2


def test_batch(redis):
    """Commands wait for others, up to a size or a time."""
    px, (server,) = redis(settings={"max_buffer_size_before_flush": 100, "buffer_flush_timeout": "0.5s"})
    with Client(px.port) as c:
        assert c.ask("set", "a", "1") == "+OK"  # after its time
        c.send(b"".join(command("set", f"k{i}", "x" * 20) for i in range(10)))
        assert [c.answer() for _ in range(10)] == ["+OK"] * 10
    assert len(server.keys) == 11


def test_passwords(redis):
    px, _ = redis(downstream_auth_username={"inline_string": "me"}, downstream_auth_passwords=[{"inline_string": "one"}, {"inline_string": "two"}])
    with Client(px.port) as c:
        assert c.ask("get", "a") == c.ask("ping") == "-NOAUTH Authentication required."
        for name, password in (("me", "x"), ("you", "one"), ("me", "on"), ("me", "onee"), ("me", "")):
            assert c.ask("auth", name, password) == "-WRONGPASS invalid username-password pair", (name, password)
        assert c.ask("auth", "me", "two") == "+OK" and c.ask("get", "a") is None
        assert c.ask("auth", "bad") == "-ERR invalid password" and c.ask("ping") == "-NOAUTH Authentication required."
    px, _ = redis(downstream_auth_passwords=[{"inline_string": "one"}])
    with Client(px.port) as c:
        assert c.ask("auth", "one") == "+OK" and c.ask("ping") == "+PONG"
    with Client(px.port) as c:
        assert c.ask("auth", "default", "one") == "+OK" and c.ask("ping") == "+PONG"


@pytest.mark.stricter  # the real one reads on
def test_client_that_does_not_read(redis):
    """Commands of a client that takes no answers stay in its socket (H7)."""
    px, (server,) = redis()
    server.keys[b"big"] = b"v" * 2000
    before = px.memory_kib()
    c = Client(px.port, timeout=30)
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    n = 20000
    sender = threading.Thread(target=c.send, args=(command("get", "big") * n,), daemon=True)
    sender.start()
    heard = 0

    def still():
        nonlocal heard
        heard, last = len(server.heard), heard
        return 0 < heard == last
    until(still, 20, "the proxy asks no more")
    assert heard < n and px.grown_kib(before) < 40 << 10
    for _ in range(n):
        assert len(c.answer()) == 2000
    sender.join(10)
    c.close()


def test_refused_configurations(mesh):
    for routes, why in (({"routes": [{"prefix": "a", "cluster": "c"}, {"prefix": "a", "cluster": "c"}]}, "prefix `a` already exists."),):
        f = config.ext("r", TYPE, stat_prefix="r", settings={"op_timeout": "1s"}, prefix_routes=routes)
        px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [f])], [], free_port()), ready=False)
        assert px.process.wait(10) != 0 and why in px.log()


@pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server")
def test_real_server(mesh):
    port = free_port()
    server = subprocess.Popen(["redis-server", "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        f = config.ext("r", TYPE, stat_prefix="r", settings={"op_timeout": "5s"}, prefix_routes={"catch_all_route": {"cluster": "one"}})
        px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [f])], [config.cluster("one", [port], lb_policy="MAGLEV")], free_port()))
        with Client(px.port) as c:
            until(lambda: c.ask("set", "a", "1") == "+OK", 5, "redis-server")
            assert c.ask("incr", "a") == 2 and c.ask("rpush", "l", "x", "y") == 2 and c.ask("lrange", "l", "0", "-1") == [b"x", b"y"]
            assert c.ask("eval", "return {1,{2,{'three'}},false}", "1", "k") == [1, [2, [b"three"]], None]
            assert c.ask("get", "l").startswith("-WRONGTYPE") and c.ask("zadd", "z", "1.5", "m") == 1
        out = subprocess.run(["redis-benchmark", "-p", str(px.port), "-n", "2000", "-c", "8", "-P", "4", "-t", "set,get,incr,lpush,mset", "-q"],
                             capture_output=True, text=True, timeout=60)
        assert out.returncode == 0 and "Error" not in out.stdout + out.stderr, out
    finally:
        server.terminate()
        server.wait(10)
