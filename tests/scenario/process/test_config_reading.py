"""What a bootstrap's text may look like: where Envoy guesses, Mizzen says what it did not expect (rows P1, H02)."""
import subprocess

import pytest

JSON, YAML = "json", "yaml"
CLUSTER = '{"static_resources": {"clusters": [{"name": "c", "connect_timeout": "1s"%s}]}}'

# id, kind of file, its text, words that Mizzen's error has; Envoy 1.40.0 takes every one
REFUSED = [
    ("trailing-comma", JSON, CLUSTER % ",", "JSON"),
    ("bare-key", JSON, '{node: {"id": "a"}}', "JSON"),
    ("single-quotes", JSON, "{'node': {\"id\": \"a\"}}", "JSON"),
    ("duplicate-key", YAML, "node: {id: a, id: b}\n", "id"),
    ("second-document", YAML, "node: {id: a}\n---\nnode: {id: b}\n", "document"),
    ("quoted-hex", YAML, CLUSTER % ', "per_connection_buffer_limit_bytes": "0x10"', "per_connection_buffer_limit_bytes"),
    ("nested-list", YAML, 'static_resources: {clusters: [[{name: c}]]}\n', "clusters"),
    ("nul", YAML, 'node: {id: "a\\0b"}\n', "NUL"),
    ("nan", YAML, "static_resources: {clusters: [{name: c, preconnect_policy: {per_upstream_preconnect_ratio: NaN}}]}\n", "nan"),
]
# id, kind, text: the same in both
TAKEN = [
    ("comment", YAML, "# nothing\nnode: {id: a} # here\n"), ("json-in-yaml", YAML, CLUSTER % ""), ("json", JSON, CLUSTER % ""),
    ("null-is-absent", YAML, CLUSTER % ', "per_connection_buffer_limit_bytes": null'),
    ("number-as-text", YAML, CLUSTER % ', "per_connection_buffer_limit_bytes": "1024"'),
]


def validate(proxy, folder, kind, text):
    path = folder / f"boot.{kind}"
    path.write_text(text)
    return subprocess.run([proxy, "--mode", "validate", "-c", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", timeout=20)


@pytest.mark.parametrize("kind,text,words", [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_h02_refused(proxy_binary, is_envoy, tmp_path, kind, text, words):
    r = validate(proxy_binary, tmp_path, kind, text)
    if is_envoy:
        assert r.returncode == 0, r.stdout
        return
    errors = [x for x in r.stdout.splitlines() if "critical" in x]
    assert r.returncode == 1 and len(errors) == 1 and words in errors[0], r.stdout


@pytest.mark.parametrize("kind,text", [r[1:] for r in TAKEN], ids=[r[0] for r in TAKEN])
def test_taken(proxy_binary, tmp_path, kind, text):
    r = validate(proxy_binary, tmp_path, kind, text)
    assert r.returncode == 0 and "OK" in r.stdout, r.stdout


def test_tag_makes_a_string(proxy_binary, is_envoy, tmp_path):  # as YAML says; Envoy takes 7 for a number all the same
    assert validate(proxy_binary, tmp_path, YAML, "node: {id: !!str 7}\n").returncode == (1 if is_envoy else 0)
