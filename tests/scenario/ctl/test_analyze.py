"""mizzenctl analyze and validate against what the field's tool says of documents with one fault each (C7, C12)."""
import json
import pathlib
import re

import pytest
import yaml

import ctl

pytestmark = pytest.mark.skipif(not ctl.MIZZENCTL.exists(), reason="mizzenctl is not built")
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "istio" / "validation"
CASES = sorted(f.stem for f in GOLDEN.glob("*.yaml"))
# Types that our schemas lack are handed on to proxies, which may know them.
OTHER_VERDICTS = ["29"]
OBJECT_RULES = ["IST0106", "IST0133"]  # the webhook's rules: their words are ours


def lines(text):
    """Without the place, which the recorded run of all analyzers did not always have."""
    return sorted(re.sub(r"( [^ ]+\.yaml)?:\d+\)", ")", line).strip() for line in text.splitlines()
                  if line.startswith(("Error [", "Warning [", "Info [")) and not any(c in line for c in OBJECT_RULES))


@pytest.mark.parametrize("case", CASES)
def test_findings_are_those_of_the_fields_tool(case):
    want = (GOLDEN / f"{case}.expected.txt").read_text().split("## every analyzer")[1].split("## validate")[0]
    p = ctl.run("analyze", "-A", f"{case}.yaml", cwd=GOLDEN)
    assert lines(p.stdout) == lines(want)
    assert p.returncode == (79 if "Error [" in p.stdout else 0), p.stderr


@pytest.mark.parametrize("case", [c for c in CASES if c[:2] not in OTHER_VERDICTS])
def test_verdicts_are_those_of_the_webhook(case):
    want = int(re.search(r"## validate.*\(exit (\d+)\)", (GOLDEN / f"{case}.expected.txt").read_text())[1])
    p = ctl.run("validate", "-f", GOLDEN / f"{case}.yaml")
    assert p.returncode == want, p.stdout + p.stderr


@pytest.mark.parametrize("case, line", [("02-subset-not-defined", 17), ("06-duplicate-match", 12), ("10-gateway-not-found", 17),
                                        ("11-two-virtualservices-one-mesh-host", 14)])
def test_findings_name_file_and_line(case, line):
    assert f"{case}.yaml:{line})" in ctl.run("analyze", "-A", f"{case}.yaml", cwd=GOLDEN).stdout


def test_nothing_to_say():
    p = ctl.run("analyze", "-A", "45-good-one.yaml", cwd=GOLDEN)
    assert (p.returncode, p.stdout) == (0, "")
    assert p.stderr == "\u2714 No validation issues found when analyzing 45-good-one.yaml.\n"


def test_output_as_documents():
    found = json.loads(ctl.run("analyze", "-A", "-o", "json", "10-gateway-not-found.yaml", cwd=GOLDEN).stdout)
    assert [f["code"] for f in found] == ["IST0101", "IST0132"]
    assert found[0] == {"code": "IST0101", "level": "Error", "message": 'Referenced gateway not found: "ghost"', "origin": "VirtualService demo/v",
                        "reference": "10-gateway-not-found.yaml:17", "documentationUrl": "https://istio.io/latest/docs/reference/config/analysis/ist0101/"}
    assert yaml.safe_load(ctl.run("analyze", "-A", "-oyaml", "10-gateway-not-found.yaml", cwd=GOLDEN).stdout) == found


@pytest.mark.parametrize("args, code, count", [
    (["-A", "--suppress", "IST0101=VirtualService *"], 0, 1),
    (["-A", "-S", "IST0101=VirtualService v.demo", "-S", "IST0132=*"], 0, 0),
    (["-A", "-S", "IST0101=VirtualService v.other"], 79, 2),
    (["-A", "-S", "IST0101=VirtualService demo/v"], 0, 1),
    (["-A", "--color"], 79, 2),
    (["-A", "--output-threshold", "Error"], 79, 1),
    (["-A", "--failure-threshold", "Warning", "-S", "IST0101=*"], 79, 1),
    (["-n", "demo"], 79, 2),
    (["-n", "other"], 0, 0),
])
def test_what_counts(args, code, count):
    p = ctl.run("analyze", *args, "10-gateway-not-found.yaml", cwd=GOLDEN)
    assert (p.returncode, len(p.stdout.splitlines())) == (code, count), p.stdout + p.stderr


def test_directories_are_read_and_documents_know_each_other(tmp_path):
    text = (GOLDEN / "10-gateway-not-found.yaml").read_text()
    (tmp_path / "below").mkdir()
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "notes.txt").write_text("kind: [")
    (tmp_path / "below" / "gateway.json").write_text(json.dumps({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "ghost", "namespace": "demo"},
        "spec": {"servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["./*.example.com"]}]}}))
    p = ctl.run("analyze", "-A", tmp_path)
    assert "IST01" not in p.stdout, p.stdout


def test_what_is_no_document(tmp_path):
    (tmp_path / "a.yaml").write_text("kind: [\n")
    p = ctl.run("analyze", "-A", tmp_path / "a.yaml")
    assert p.returncode == 65 and "a.yaml:1: not YAML" in p.stderr and "Some files couldn't be parsed" in p.stderr
    assert ctl.run("analyze", "-A", "--ignore-unknown", tmp_path / "a.yaml").returncode == 0
    p = ctl.run("validate", "-f", tmp_path / "a.yaml")
    assert p.returncode == 1 and "1 error occurred" in p.stderr


def test_validate_reads_standard_input_and_tells_warnings():
    assert ctl.run("validate", "-f", "-", text=(GOLDEN / "45-good-one.yaml").read_text()).returncode == 0
    p = ctl.run("v", "-f", GOLDEN / "06-duplicate-match.yaml")
    assert p.returncode == 0
    assert "\t* VirtualService/demo/v: virtualService rule #1 match #0 is not used (duplicate/overlapping match in rule #0)\n" in p.stdout
    assert "\t* VirtualService/demo/v: virtualService rule #1 not used (all matches used by prior rules)\n" in p.stdout


@pytest.mark.parametrize("args, code, text", [
    (["analyze"], 1, "name files or directories"),
    (["analyze", "--use-kube", "a.yaml"], 1, "no cluster is asked"),
    (["analyze", "-o", "xml", "a.yaml"], 64, "xml not a valid option for format"),
    (["analyze", "--failure-threshold", "Bad", "a.yaml"], 64, "a threshold is one of"),
    (["analyze", "-S", "IST0101", "a.yaml"], 1, "IST0101 is not a valid suppression value"),
    (["analyze", "/no/such.yaml"], 1, "/no/such.yaml: No such file or directory"),
    (["validate"], 1, "must specify a filename with -f"),
    (["validate", "-f", "/no/such.yaml"], 1, "No such file or directory"),
])
def test_command_lines(args, code, text):
    p = ctl.run(*args)
    assert p.returncode == code and text in p.stderr


def test_many_objects_take_little_time(tmp_path):  # H02: nobody's documents make others wait
    match = "  - match: [%s]\n    route: [{destination: {host: web}}]\n" % ", ".join(f"{{uri: {{exact: /{i}}}}}" for i in range(3000))
    (tmp_path / "a.yaml").write_text("".join(
        f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{n}}}\nspec:\n  hosts: [h{n}]\n  http:\n{match}---\n" for n in range(3)))
    assert ctl.run("analyze", "-A", tmp_path / "a.yaml").returncode in (0, 79)


def test_objects_that_name_no_namespace_are_in_the_one_that_is_asked_for(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "v"}, "spec": {}}))
    p = ctl.run("analyze", "-n", "demo", "a.yaml", cwd=tmp_path)
    assert p.returncode == 79 and "Error [IST0106] (VirtualService demo/v a.yaml:1)" in p.stdout


def test_what_is_told_beside_the_findings(tmp_path):
    p = ctl.run("analyze", "-A", "-v", "-o", "JSON", "45-good-one.yaml", cwd=GOLDEN)
    assert (p.returncode, json.loads(p.stdout)) == (0, [])
    assert p.stderr == "Analyzed resources in all namespaces\n\n\u2714 No validation issues found when analyzing 45-good-one.yaml.\n"
    p = ctl.run("analyze", "-A", "-S", "IST9999=*", "45-good-one.yaml", cwd=GOLDEN)
    assert p.returncode == 0 and p.stderr.startswith("Warning: Supplied message code 'IST9999' is an unknown message code")
    for wrong in ("IST0101", "a=b=c"):
        p = ctl.run("analyze", "-A", "-S", wrong, "45-good-one.yaml", cwd=GOLDEN)
        assert (p.returncode, p.stderr) == (1, f"Error: {wrong} is not a valid suppression value. See mizzenctl analyze --help\n")
    p = ctl.run("analyze", "-R", "45-good-one.yaml", cwd=GOLDEN)
    assert p.returncode == 0 and p.stdout.startswith("The recursive flag has been removed")
    (tmp_path / "a.yaml").write_text("kind: [")
    p = ctl.run("analyze", "-A", tmp_path / "a.yaml")
    assert p.returncode == 65 and "No validation issues found when analyzing all namespaces (but 1 document could not be parsed).\n" in p.stderr
