"""A small public key infrastructure by the openssl command: authorities and certificates in a folder."""
import subprocess


class Pki:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def path(self, name):
        return str(self.folder / name)

    def _run(self, *argv, data=None):
        subprocess.run(["openssl", *argv], cwd=self.folder, input=data, check=True, capture_output=True)

    def authority(self, name="ca"):
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem",
                  "-days", "30", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE")

    def issue(self, name, san="DNS:server.test", ca="ca", rsa=False, days="30", usage=None, more=""):
        """name.pem and name.key; negative days: expired already; more: lines of the extensions' file."""
        kind = ["-newkey", "rsa:2048"] if rsa else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        self._run("req", "-new", *kind, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.folder / f"{name}.ext").write_text((f"subjectAltName={san}\n" if san else "") + (f"extendedKeyUsage={usage}\n" if usage else "") + more)
        self._run("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", days,
                  "-extfile", f"{name}.ext", "-out", f"{name}.pem")

    def ocsp(self, name, out, ca="ca", days="7", revoked=False):
        """An OCSP response for name.pem; no days: it does not say until when, which is as good as expired."""
        serial = subprocess.run(["openssl", "x509", "-in", f"{name}.pem", "-noout", "-serial"], cwd=self.folder, check=True, capture_output=True,
                                text=True).stdout.strip().partition("=")[2]
        state, when = ("R", "260101000000Z") if revoked else ("V", "")
        (self.folder / f"{name}.index").write_text(f"{state}\t490101000000Z\t{when}\t{serial}\tunknown\t/CN={name}\n")
        self._run("ocsp", "-issuer", f"{ca}.pem", "-cert", f"{name}.pem", "-reqout", f"{name}.req", "-no_nonce")
        self._run("ocsp", "-index", f"{name}.index", "-CA", f"{ca}.pem", "-rsigner", f"{ca}.pem", "-rkey", f"{ca}.key", "-reqin", f"{name}.req", "-respout", out,
                  *(["-ndays", days] if days else []))

    def pair(self, name):
        """A tls_certificates entry."""
        return {"certificate_chain": {"filename": self.path(f"{name}.pem")}, "private_key": {"filename": self.path(f"{name}.key")}}
