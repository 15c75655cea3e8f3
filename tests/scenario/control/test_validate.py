"""mizzend --mode validate: what is wrong in a directory of documents, by file, line and path (C1, C2, H01)."""
import os
import pathlib
import subprocess

import pytest

MIZZEND = pathlib.Path(os.environ.get("MIZZEN_PROXY", "build/mizzen-proxy")).resolve().with_name("mizzend")
pytestmark = pytest.mark.skipif(not MIZZEND.exists(), reason="mizzend is not built")

GOOD = """apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}
"""


def validate(folder, *more):
    p = subprocess.run([MIZZEND, "--config-dir", folder, "--mode", "validate", *more], capture_output=True, text=True, timeout=60)
    assert "Sanitizer" not in p.stderr
    return p


def test_good_directory(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    p = validate(tmp_path)
    assert p.returncode == 0
    assert p.stdout == f"{tmp_path}: 1 services, 0 errors, 0 warnings\n"


def test_broken_documents_are_named_and_others_count(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD + "---\nkind: [\n---\n" + GOOD.replace("port: 80", "port: eighty").replace("web", "api"))
    p = validate(tmp_path)
    assert p.returncode == 1
    lines = p.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path}/a.yaml:5: error: not YAML: ")
    assert lines[1] == (f"{tmp_path}/a.yaml:8: error: Service/demo/api: spec.ports[0].port: expected a whole number, got string "
                        '"eighty" (line 11, column 56)')
    assert lines[2] == f"{tmp_path}: 1 services, 2 errors, 0 warnings"


def test_kinds_that_are_not_read_are_told(tmp_path):
    (tmp_path / "a.yaml").write_text("apiVersion: networking.istio.io/v1\nkind: NoSuchThing\nmetadata: {name: v}\n")
    p = validate(tmp_path)
    assert p.returncode == 0
    assert "a.yaml:1: warning: this version does not read NoSuchThing of networking.istio.io/v1: it has no effect" in p.stdout


@pytest.mark.parametrize("args, text", [
    ([], "(--config-dir)"),
    (["--config-dir", "/no/such/place", "--mode", "validate"], "/no/such/place: No such file or directory"),
    (["--config-dir", "/", "--mode", "frob"], "(--mode)"),
    (["--no-such-flag"], "Couldn't find match for argument"),
])
def test_command_line(args, text):
    p = subprocess.run([MIZZEND, *args], capture_output=True, text=True, timeout=60)
    assert p.returncode == 1
    assert text in p.stderr


def test_help_and_version():
    assert "--config-dir" in subprocess.run([MIZZEND, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "version: " in subprocess.run([MIZZEND, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
