"""JSON Web Tokens and keys (RFC 7515, 7517) by the openssl command, right ones and wrong ones."""
import base64
import hashlib
import hmac
import json
import subprocess
import time

FAR = 4102444800  # 2100
CURVES = {"P-256": ("prime256v1", 32), "P-384": ("secp384r1", 48), "P-521": ("secp521r1", 66)}


def b64(data):
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def openssl(*argv, data=None):
    return subprocess.run(["openssl", *argv], input=data, check=True, capture_output=True).stdout


def der_rs(sig, size):
    """The two numbers of a DER signature, each of `size` bytes."""
    at, out = 3 if sig[1] & 0x80 else 2, b""
    for _ in range(2):
        n = sig[at + 1]
        out += sig[at + 2:at + 2 + n].lstrip(b"\0").rjust(size, b"\0")
        at += 2 + n
    return out


class Key:
    """One key: "RSA", "RSA:1024", "P-256", "P-384", "P-521", "Ed25519" or "oct"; `jwk()` is its public half."""

    def __init__(self, folder, kind="RSA", kid="k1"):
        self.kind, self.kid, self.size = kind, kid, 32
        self.path = str(folder / f"{kid}-{kind.replace(':', '-')}.key")
        if kind == "oct":
            self.secret = hashlib.sha256(kid.encode()).digest()
            return
        if kind.startswith("RSA"):
            argv = ["-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{kind.partition(':')[2] or 2048}"]
        elif kind == "Ed25519":
            argv = ["-algorithm", "ED25519"]
        else:
            argv = ["-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{CURVES[kind][0]}"]
            self.size = CURVES[kind][1]
        openssl("genpkey", *argv, "-out", self.path)
        self.public = openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")

    def jwk(self, **more):
        if self.kind == "oct":
            out = {"kty": "oct", "k": b64(self.secret)}
        elif self.kind.startswith("RSA"):
            n = openssl("rsa", "-in", self.path, "-noout", "-modulus").strip().partition(b"=")[2]
            out = {"kty": "RSA", "n": b64(bytes.fromhex(n.decode())), "e": "AQAB"}
        elif self.kind == "Ed25519":
            out = {"kty": "OKP", "crv": "Ed25519", "x": b64(self.public[-32:])}
        else:
            out = {"kty": "EC", "crv": self.kind, "x": b64(self.public[-2 * self.size:-self.size]), "y": b64(self.public[-self.size:])}
        return {**out, **({"kid": self.kid} if self.kid else {}), **more}

    def certificate(self):
        return openssl("req", "-new", "-x509", "-key", self.path, "-subj", "/CN=issuer", "-days", "30").decode()

    def algorithm(self):
        return {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA", "oct": "HS256"}.get(self.kind, "RS256")

    def sign(self, text, alg):
        bits = alg[-3:]
        if alg.startswith("HS"):
            return hmac.new(self.secret, text, "sha" + bits).digest()
        if alg == "EdDSA":
            with open(self.path + ".in", "wb") as f:
                f.write(text)
            return openssl("pkeyutl", "-sign", "-inkey", self.path, "-rawin", "-in", self.path + ".in")
        pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"] if alg.startswith("PS") else []
        sig = openssl("dgst", "-sha" + bits, "-sign", self.path, *pss, data=text)
        return der_rs(sig, self.size) if alg.startswith("ES") else sig

    def token(self, claims, alg=None, header=None, signed_as=None):
        """`claims` and `header` may also be texts, taken as they are."""
        alg = alg or self.algorithm()
        head = header if isinstance(header, str) else json.dumps({"alg": alg, "typ": "JWT", **({"kid": self.kid} if self.kid else {}), **(header or {})})
        text = b64(head) + "." + b64(claims if isinstance(claims, str) else json.dumps(claims))
        return text + "." + b64(self.sign(text.encode(), signed_as or alg))


def jwks(*keys):
    return json.dumps({"keys": [k if isinstance(k, dict) else k.jwk() for k in keys]})


def claims(**more):
    return {"iss": "https://issuer.test", "sub": "alice", "aud": "api", "exp": FAR, **more}


def now():
    return int(time.time())
