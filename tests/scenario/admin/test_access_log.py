"""The admin listener's own access log (O2, O4)."""
import config
from wire import free_port, until


def test_admin_requests_are_logged_and_the_proxy_ends_cleanly(mesh):  # O4
    path = mesh.folder / "admin.log"
    boot = config.bootstrap([], [], free_port())
    boot["admin"]["access_log_path"] = str(path)
    px = mesh.proxy(boot=boot)
    until(lambda: path.exists() and "GET /ready" in path.read_text(), 12, "a line of the admin listener")
    px.stop()
