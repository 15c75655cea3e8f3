"""mizzen-sample-load, which people and labs ask with: a name of several addresses of which only one answers, as localhost on many machines."""
import json
import pathlib

import pytest

from ctl import MIZZENCTL
from world import world  # noqa: F401

BIN = pathlib.Path(MIZZENCTL).parent
pytestmark = pytest.mark.skipif(not (BIN / "mizzen-sample-load").exists(), reason="the samples are not built")


@pytest.mark.parametrize("addresses", [("::1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "::1")])
def test_the_address_that_answers(world, addresses):  # noqa: F811
    hosts = "".join(f"{a} two\\n" for a in addresses)
    told = world.run(f"printf '{hosts}' > /run/hosts && mount --bind /run/hosts /etc/hosts\n"
                     f"{BIN}/mizzen-sample-server --host 127.0.0.1 --port 8199 >/dev/null 2>&1 & p=$!\n"
                     f"{BIN}/mizzen-sample-load --wait 5 --requests 5 http://two:8199/; r=$?; kill $p; exit $r")
    told = json.loads(told)
    assert told["errors"] == 0 and told["status"] == {"200": 5}, told
