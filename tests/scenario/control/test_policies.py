"""A sidecar that is connected to mizzend does what policies say of requests and connections (C10); caught as in a pod."""
import json

import pytest

import control
import jose
import sidecar
from netns import Plain, netns  # noqa: F401 (a fixture)
from wire import Client, free_port, until

pytestmark = pytest.mark.skipif(not control.MIZZEND.exists(), reason="mizzend is not built")
POD, PEER = "10.1.0.9", "10.1.0.77"
KUBE = f"""
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: demo}}
spec: {{clusterIP: 10.1.200.1, selector: {{app: web}}, ports: [{{name: http, port: 8080}}, {{name: tcp, port: 9000}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web-0, namespace: demo, labels: {{app: web}}}}
status: {{phase: Running, podIP: {POD}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: demo}}
spec: {{mtls: {{mode: DISABLE}}}}
"""


def policy(name, kind="AuthorizationPolicy", annotations="{}", **spec):
    return f"---\napiVersion: security.istio.io/v1\nkind: {kind}\n" \
           f"metadata: {{name: {name}, namespace: demo, annotations: {annotations}}}\nspec: {json.dumps(spec)}\n"


class Pod:
    """An application at 8080 and 9000 with its sidecar, and how policies change."""

    def __init__(self, mesh, folder, netns):
        netns.run("iptables -t nat -A OUTPUT -p tcp -s 127.0.0.6 -j RETURN")  # the sidecar's own connections to the application
        netns.run(f"iptables -t nat -A OUTPUT -p tcp -d {POD} -j REDIRECT --to-ports 15006")
        netns.add(f"{PEER}/32")
        self.apps = [Plain(POD, 8080, "http"), Plain(POD, 9000, "tcp")]
        self.mizzend = control.Mizzend(folder, {"kube.yaml": KUBE, "mesh.yaml": "accessLogFile: /dev/null\n"})
        node = folder / "node.json"
        node.write_text(json.dumps({**sidecar.node("web"), "id": f"sidecar~{POD}~web-0.demo~demo.svc.cluster.local"}))
        self.proxy = mesh.proxy(boot=control.bootstrap(node, self.mizzend.port, free_port()), ready=False)
        until(lambda: self.http() == 200, 30, "the pod to answer")

    def http(self, path="/", method="GET", source=None, **headers):
        try:
            with Client((POD, 8080), source=source) as c:
                c.send(f"{method} {path} HTTP/1.1\r\nhost: web\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n")
                return c.response(method).status
        except (OSError, EOFError):
            return None

    def tcp(self, source=None):
        try:
            with Client((POD, 9000), source=source) as c:
                return c.get("/").status == 200
        except (OSError, EOFError):
            return False

    def apply(self, *policies, until_status, **request):
        """The policies, and nothing of those before, hold when the request gets this status."""
        self.mizzend.write("policy.yaml", "".join(policies))
        until(lambda: self.http(**request) == until_status, 30, f"{until_status} for {request}")

    def close(self):
        for a in self.apps:
            a.close()
        self.mizzend.stop()


@pytest.fixture
def pod(mesh, tmp_path, netns):  # noqa: F811
    p = Pod(mesh, tmp_path, netns)
    yield p
    p.close()


def test_who_may_do_what(pod):
    get = {"to": [{"operation": {"methods": ["GET"]}}]}
    admin = {"to": [{"operation": {"paths": ["/admin*", "/{*}/secret"]}}]}
    pod.apply(policy("get", rules=[get]), until_status=403, method="POST")
    assert pod.http("/admin") == 200
    assert not pod.tcp(), "a rule about requests allows no connection"

    pod.apply(policy("get", rules=[get]), policy("no", action="DENY", rules=[admin]), until_status=403, path="/admin/x")
    assert (pod.http("/a/secret"), pod.http("/a/b/secret"), pod.http("/a")) == (403, 200, 200)

    dry = policy("no", action="DENY", annotations='{"istio.io/dry-run": "true"}', rules=[admin])
    pod.apply(dry, until_status=200, path="/admin/x")
    assert pod.proxy.stat("http.inbound_0.0.0.0_8080;.rbac.istio_dry_run_deny_.shadow_denied") >= 1

    from_peer = {"from": [{"source": {"ipBlocks": [f"{PEER}/32"]}}]}
    pod.apply(policy("peer", action="DENY", rules=[from_peer]), until_status=403, source=PEER)
    assert pod.http() == 200 and pod.tcp() and not pod.tcp(source=PEER)

    pod.apply(policy("none"), until_status=403)
    pod.apply("", until_status=200)
    assert pod.tcp()


def test_tokens(pod, tmp_path):
    key, other = jose.Key(tmp_path), jose.Key(tmp_path, kid="k2")
    rule = {"issuer": "https://issuer.test", "jwks": jose.jwks(key), "audiences": ["api"]}
    staff = {"from": [{"source": {"requestPrincipals": ["https://issuer.test/*"]}}],
             "when": [{"key": "request.auth.claims[groups][of]", "values": ["staff", "adm*"]}]}
    authn = policy("jwt", "RequestAuthentication", jwtRules=[rule])

    def bearer(k=key, **more):
        return {"authorization": "Bearer " + k.token(jose.claims(**more))}
    pod.apply(authn, until_status=401, **bearer(other))
    assert (pod.http(), pod.http(**bearer()), pod.http(**bearer(aud="web")), pod.http(**bearer(iss="x"))) == (200, 200, 403, 401)
    pod.apply(authn, policy("staff", rules=[staff]), until_status=403)
    assert pod.http(**bearer()) == 403
    assert [pod.http(**bearer(groups={"of": of})) for of in ("staff", ["guests", "admins"], ["guests"])] == [200, 200, 403]


def test_what_is_wrong_with_a_policy_is_told_and_changes_nothing(pod):
    pod.apply(policy("get", rules=[{"to": [{"operation": {"methods": ["GET"]}}]}]), until_status=403, method="POST")
    pod.mizzend.write("policy.yaml", policy("get", rules=[{"to": [{"operation": {"ports": ["http"]}}]}]))
    until(lambda: "AuthorizationPolicy/demo/get: spec.rules[0].to[0].operation.ports[0]: \"http\" is not a port" in pod.mizzend.log(), 30, "the refusal")
    assert (pod.http(), pod.http(method="POST")) == (200, 403)
