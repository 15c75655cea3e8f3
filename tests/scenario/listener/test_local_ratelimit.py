"""local_ratelimit for connections that were just accepted (L2)."""
import json
import socket
import subprocess

import pytest

import config
from wire import HOST, free_port, until


def limit(tokens, interval, **fields):
    return config.ext("envoy.filters.listener.local_ratelimit", "envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit",
                      stat_prefix="lim", token_bucket={"max_tokens": tokens, "fill_interval": interval}, **fields)


def start(mesh, *filters, **boot):
    echo = config.ext("envoy.filters.network.echo", "envoy.extensions.filters.network.echo.v3.Echo")
    return mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [echo], listener_filters=list(filters))], [], free_port(), **boot))


def served(px):
    with socket.create_connection((HOST, px.port), timeout=5) as s:
        try:
            s.sendall(b"hi")
            return s.recv(2) == b"hi"
        except ConnectionError:
            return False


LIMITED = "listener_local_ratelimit.lim.rate_limited"


def test_over_the_limit_they_end_at_once(mesh):
    px = start(mesh, limit(2, "3600s"))
    assert [served(px) for _ in range(5)] == [True, True, False, False, False]
    assert px.stat(LIMITED) == 3
    assert px.stat(f"listener.{HOST}_{px.port}.downstream_cx_total") == 2
    until(lambda: px.stat(f"listener.{HOST}_{px.port}.downstream_pre_cx_active") == 0)
    assert px.stat(f"listener.{HOST}_{px.port}.no_filter_chain_match") == 0


def test_it_fills_again(mesh):
    px = start(mesh, limit(1, "0.3s"))
    assert served(px)
    until(lambda: served(px), 5, "a token")
    assert px.stat(LIMITED) >= 1


def test_of_all_workers_together(mesh):
    echo = config.ext("envoy.filters.network.echo", "envoy.extensions.filters.network.echo.v3.Echo")
    px = mesh.proxy(boot=config.bootstrap([config.listener(free_port(), [echo], listener_filters=[limit(5, "3600s")])], [], free_port()), concurrency=2)
    assert sum(served(px) for _ in range(20)) == 5 and px.stat(LIMITED) == 15


def test_the_runtime_turns_it_off_and_on(mesh):
    px = start(mesh, limit(1, "3600s", runtime_enabled={"default_value": False, "runtime_key": "lim.on"}),
               layered_runtime={"layers": [{"name": "admin", "admin_layer": {}}]})
    assert all(served(px) for _ in range(3)) and px.stat(LIMITED) == 0
    assert px.admin("/runtime_modify?lim.on=true", "POST")[0] == 200
    until(lambda: not served(px), 5, "the limit")
    px.wait_stat(LIMITED)


@pytest.mark.parametrize("fields,path", [
    ({"stat_prefix": "x"}, "token_bucket"),
    ({"token_bucket": {"max_tokens": 1, "fill_interval": "1s"}}, "stat_prefix"),
    ({"stat_prefix": "x", "token_bucket": {"max_tokens": 1, "fill_interval": "0.049s"}}, "fill_interval"),
])
def test_refused(proxy_binary, tmp_path, is_envoy, fields, path):
    f = config.ext("envoy.filters.listener.local_ratelimit", "envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit", **fields)
    echo = config.ext("envoy.filters.network.echo", "envoy.extensions.filters.network.echo.v3.Echo")
    (tmp_path / "boot.json").write_text(json.dumps(config.bootstrap([config.listener(free_port(), [echo], listener_filters=[f])], [], free_port())))
    r = subprocess.run([proxy_binary, "--mode", "validate", "-c", tmp_path / "boot.json"], capture_output=True, text=True)
    assert r.returncode != 0 and (is_envoy or f"listener_filters[0].typed_config.{'token_bucket.' if path == 'fill_interval' else ''}{path}" in r.stdout + r.stderr), r.stderr
