"""mizzen-agent in a network namespace with a pod's address."""
import os
import pathlib
import subprocess

AGENT = pathlib.Path(os.environ.get("MIZZEN_PROXY", "build/mizzen-proxy")).absolute().with_name("mizzen-agent")
ADDRESSES = {"4": ["10.10.0.10/16"], "6": ["fd00::10/64"], "46": ["10.10.0.10/16", "fd00::10/64"]}


def pod(script, family="4", dns="10.96.0.10", tmp=None, env=None, code=0):
    """Runs a shell script in a fresh network namespace with a pod's address; its standard output."""
    resolv = tmp / "resolv.conf"
    resolv.write_text(f"nameserver {dns}\n")
    lines = ["set -e", "ip link set lo up", "ip link add eth0 type veth peer name far"]
    lines += [f"ip addr add {a} dev eth0 nodad" if ":" in a else f"ip addr add {a} dev eth0" for a in ADDRESSES[family]]
    lines += ["ip link set eth0 addrgenmode none", "ip link set eth0 up", f"cd {tmp}", script]
    done = subprocess.run(["unshare", "-n", "sh", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60,
                          env={"PATH": os.environ["PATH"], "RESOLV_CONF": str(resolv), **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}, **(env or {})})
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout if code == 0 else done.stderr
