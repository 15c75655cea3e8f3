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

    def issue(self, name, san="DNS:server.test", ca="ca", rsa=False, days="30", usage=None):
        """name.pem and name.key; negative days: expired already."""
        kind = ["-newkey", "rsa:2048"] if rsa else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        self._run("req", "-new", *kind, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.folder / f"{name}.ext").write_text((f"subjectAltName={san}\n" if san else "") + (f"extendedKeyUsage={usage}\n" if usage else ""))
        self._run("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", days,
                  "-extfile", f"{name}.ext", "-out", f"{name}.pem")

    def pair(self, name):
        """A tls_certificates entry."""
        return {"certificate_chain": {"filename": self.path(f"{name}.pem")}, "private_key": {"filename": self.path(f"{name}.key")}}
