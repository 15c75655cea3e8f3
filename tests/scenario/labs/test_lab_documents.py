"""The documents of samples/: nothing is wrong with them, for mizzend and as it would be refused on writing; each README speaks of what is there."""
import re
import shutil
import subprocess

import pytest

import ctl
from control import MIZZEND
from samples import LABS, ROOT


def test_all_are_there():
    assert set(LABS) == {"bookinfo", "two-layer", "canary", "fault", "mirror", "egress", "authorization", "ingress-tls", "job", "mixed"}
    listed = (ROOT / "README.md").read_text()
    assert all(f"[{p.name}]({p.name})" in listed for p in ROOT.iterdir() if p.is_dir())


@pytest.fixture
def lab(tmp_path):
    def of(name):
        shutil.copytree(ROOT / name, tmp_path / name)
        if name == "ingress-tls":
            subprocess.run([tmp_path / name / "make-certificate.sh"], check=True, capture_output=True, text=True)
        return tmp_path / name
    return of


@pytest.mark.parametrize("name", LABS)
def test_nothing_is_wrong(lab, name):
    folder = lab(name)
    r = subprocess.run([MIZZEND, "--mode", "validate", "-c", folder], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0 and " 0 errors, 0 warnings" in r.stdout + r.stderr, r.stdout + r.stderr
    files = [f for f in sorted(folder.glob("*.yaml")) if f.name != "mesh.yaml"]
    r = ctl.run("validate", *[x for f in files for x in ("-f", f)])
    assert r.returncode == 0, r.stdout + r.stderr


@pytest.mark.parametrize("name", LABS)
def test_readme(lab, name):
    folder = lab(name)
    text = (folder / "README.md").read_text()
    assert f"mizzenctl up samples/{name}" in text and "| try | see |" in text
    for file in set(re.findall(r"`(?:samples/[\w-]+/)?([\w-]+\.(?:yaml|sh|jwt|pem))`", text)):
        assert (folder / file).exists(), file
