"""mizzend's certificate authority as its clients see it: requests, tokens, gRPC."""
import base64
import datetime
import json
import subprocess
import time

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import control
from wire import until

WEB = "spiffe://cluster.local/ns/demo/sa/web"
METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


def key(kind="P-256"):
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key({"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1, "P-224": ec.SECP224R1}[kind]())


def csr(private, uris=(), dns=(), ca=False, extra=(), sign_with=None):
    b = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anything")]))
    names = [x509.UniformResourceIdentifier(u) for u in uris] + [x509.DNSName(d) for d in dns]
    if names:
        b = b.add_extension(x509.SubjectAlternativeName(names), False)
    if ca:
        b = b.add_extension(x509.BasicConstraints(True, None), True)
    for oid, value in extra:
        b = b.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), False)
    return b.sign(sign_with or private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def key_pem(private):
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def certs(text):
    end = "-----END CERTIFICATE-----"
    return [x509.load_pem_x509_certificate((p + end).encode()) for p in text.split(end) if "BEGIN CERTIFICATE" in p]


def verify(leaf, chain, roots):
    """With the openssl command: at all times that hold, as client and server."""
    import tempfile
    with tempfile.TemporaryDirectory() as d:
        for name, text in (("leaf", leaf), ("chain", chain), ("roots", roots)):
            with open(f"{d}/{name}", "w", encoding="utf-8") as f:
                f.write(text)
        p = subprocess.run(["openssl", "verify", "-CAfile", f"{d}/roots", *(["-untrusted", f"{d}/chain"] if chain else []), f"{d}/leaf"],
                           capture_output=True, text=True, check=False)
        return p.returncode == 0


# ---- the wire ----

def _field(number, data):
    def varint(n):
        out = b""
        while n > 127:
            out += bytes([n & 127 | 128])
            n >>= 7
        return out + bytes([n])
    if isinstance(data, int):
        return varint(number << 3) + varint(data & (1 << 64) - 1)
    return varint(number << 3 | 2) + varint(len(data)) + data


def request(text, ttl=0, metadata=None):
    out = _field(1, text.encode() if isinstance(text, str) else text)
    if ttl:
        out += _field(3, ttl)
    for k, v in (metadata or {}).items():
        out += _field(4, _field(1, _field(1, k.encode()) + _field(2, _field(3, v.encode()))))
    return out


def strings(data):
    """A message whose field 1 is a list of strings."""
    out = []
    while data:
        assert data[0] == 10
        n, shift, at = 0, 0, 1
        while True:
            n |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 128:
                break
        out.append(data[at:at + n].decode())
        data = data[at + n:]
    return out


def plain(port):
    return grpc.insecure_channel(f"127.0.0.1:{port}")


def secure(port, roots, pair=None, name="istiod.istio-system.svc"):
    credentials = grpc.ssl_channel_credentials(roots.encode(), *(pair or (None, None)))
    return grpc.secure_channel(f"127.0.0.1:{port}", credentials, [("grpc.ssl_target_name_override", name)])


def ask(channel, *args, **more):
    """As ask_once(), by a client that comes back when it was told that it asks too often: tests share an identity."""
    return until(lambda: (a := ask_once(channel, *args, **more))[0] != "RESOURCE_EXHAUSTED" and (a,), 30, "the authority's time")[0]


def ask_once(channel, text, token=None, ttl=0, metadata=None, headers=()):
    """The chain; or the code and details of the failure."""
    call = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
    heads = [*headers] + ([("authorization", f"Bearer {token}")] if token else [])
    try:
        return strings(call(request(text, ttl, metadata), metadata=heads, timeout=60))
    except grpc.RpcError as e:
        return e.code().name, e.details()


def issued(*args, **more):
    answer = ask(*args, **more)
    assert isinstance(answer, list), answer
    return answer


# ---- tokens ----

def token(folder, account="demo/web", *more):
    p = subprocess.run([control.MIZZEND, "--mode", "token", "--ca-dir", folder, "--account", account, *more], capture_output=True, text=True,
                       timeout=60, check=True)
    return p.stdout.strip()


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(private, claims, head=None):
    """A token of an issuer of ours: ES256."""
    text = f'{encode(json.dumps(head or {"alg": "ES256", "typ": "JWT"}).encode())}.{encode(json.dumps(claims).encode())}'
    r, s = utils.decode_dss_signature(private.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def claims(**more):
    return {"iss": "mizzend", "aud": ["istio-ca"], "sub": "system:serviceaccount:demo:web", "iat": int(time.time()), "exp": int(time.time()) + 600, **more}


def jwks(private):
    n = private.public_key().public_numbers()
    return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": encode(n.x.to_bytes(32, "big")), "y": encode(n.y.to_bytes(32, "big"))}]})


# ---- authorities of others ----

def authority(name, issuer=None, days=30, private=None):
    """(certificate, key), signed by issuer or by itself; negative days: expired."""
    private = private or key()
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
    now = datetime.datetime.utcnow()
    b = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer[0].subject if issuer else subject).public_key(private.public_key())
         .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=60)).not_valid_after(now + datetime.timedelta(days=days))
         .add_extension(x509.BasicConstraints(True, None), True).add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), False))
    return b.sign(issuer[1] if issuer else private, hashes.SHA256()), private


def leaf(issuer, uris, days=30, server=False):
    """(key, certificate) in PEM, of somebody else's making."""
    private, now = key(), datetime.datetime.utcnow()
    c = (x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(issuer[0].subject).public_key(private.public_key())
         .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=60)).not_valid_after(now + datetime.timedelta(days=days))
         .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(u) for u in uris]), True)
         .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])]), False)).sign(issuer[1], hashes.SHA256())
    return key_pem(private), c.public_bytes(serialization.Encoding.PEM)


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def plug(folder, root, between, roots=None):
    """The files of a plugged-in authority, each replaced as a whole."""
    folder.mkdir(exist_ok=True)
    for name, text in {"ca-cert.pem": pem(between[0]), "ca-key.pem": key_pem(between[1]).decode(), "root-cert.pem": roots or pem(root[0]),
                       "cert-chain.pem": pem(between[0])}.items():
        new = folder / f".{name}"
        new.write_text(text)
        new.chmod(0o600)
        new.rename(folder / name)


def revoked(issuer, *serials):
    """A list of revoked certificates of one authority, in PEM."""
    now = datetime.datetime.utcnow()
    b = (x509.CertificateRevocationListBuilder().issuer_name(issuer[0].subject).last_update(now - datetime.timedelta(days=1))
         .next_update(now + datetime.timedelta(days=30)))
    for s in serials:
        b = b.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(s).revocation_date(now - datetime.timedelta(hours=1)).build())
    return b.sign(issuer[1], hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
