import ssl

import pytest
from pki import Pki
import sidecar


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    p = Pki(tmp_path_factory.mktemp("mesh-pki"))
    p.authority("ca")
    for app in ("web", "api"):
        p.issue(app, f"URI:{sidecar.identity(app)}")
    return p


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """certificates("default/reviews"): texts of what a service account has."""
    pki = Pki(tmp_path_factory.mktemp("pods-pki"))
    pki.authority("ca")

    def of(account):
        namespace, _, name = account.partition("/")
        file = f"{namespace}-{name}"
        if not (pki.folder / f"{file}.pem").exists():
            pki.issue(file, san=f"URI:spiffe://cluster.local/ns/{namespace}/sa/{name}")
        return {"ca.pem": (pki.folder / "ca.pem").read_text(), "cert.pem": (pki.folder / f"{file}.pem").read_text(),
                "cert.key": (pki.folder / f"{file}.key").read_text()}

    def context(account, alpn=("istio-http/1.1", "istio")):
        """Of a client; account None: without a certificate."""
        c = ssl._create_unverified_context()
        if account:
            of(account)
            c.load_cert_chain(pki.path(account.replace("/", "-") + ".pem"), pki.path(account.replace("/", "-") + ".key"))
        c.set_alpn_protocols(list(alpn))
        return c
    def stranger(alpn):
        """A client of the same authority and another trust domain."""
        pki.issue("stranger", san="URI:spiffe://elsewhere/ns/plain/sa/peer")
        c = ssl._create_unverified_context()
        c.load_cert_chain(pki.path("stranger.pem"), pki.path("stranger.key"))
        c.set_alpn_protocols(alpn)
        return c
    of.context, of.stranger = context, stranger
    return of
