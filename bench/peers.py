"""Configurations and command lines of everything the benchmark measures.

Every target gets ten ports from its base:
  +0 http1 -> http1   +1 h2c -> http1   +2 h2c -> h2c   +3 TLS http1 -> http1   +4 tcp -> tcp
  +5 sidecar chain, plain (hop 1)   +6 its hop 2   +7 sidecar chain, mTLS between the hops (hop 1)   +8 its hop 2   +9 admin
"""
import os, shutil, subprocess


# ---------------------------------------------------------------- YAML from plain values
def yaml(v, ind=0):
    pad = "  " * ind
    if isinstance(v, dict):
        out = []
        for k, x in v.items():
            k = f'"{k}"' if k.startswith("@") else k
            if isinstance(x, (dict, list)) and x:
                out.append(f"{pad}{k}:\n{yaml(x, ind + 1)}")
            else:
                out.append(f"{pad}{k}: {scalar(x)}")
        return "\n".join(out)
    if isinstance(v, list):
        out = []
        for x in v:
            if isinstance(x, (dict, list)) and x:
                body = yaml(x, ind + 1)
                out.append(pad + "- " + body[len(pad) + 2:])
            else:
                out.append(f"{pad}- {scalar(x)}")
        return "\n".join(out)
    return pad + scalar(v)


def scalar(x):
    if x is True or x is False:
        return "true" if x else "false"
    if isinstance(x, (int, float)):
        return str(x)
    if isinstance(x, dict):
        return "{}"
    if isinstance(x, list):
        return "[]"
    return '"' + str(x).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


# ---------------------------------------------------------------- Envoy's configuration
T = "type.googleapis.com/"
HCM = T + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
FMT = ('[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
       '%RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
       '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% '
       '%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n')


def addr(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def ext(name, typ, **kw):
    return {"name": name, "typed_config": {"@type": T + typ, **kw}}


ROUTER = ext("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")


def cluster(name, port, h2=False, sock=None):
    c = {"name": name, "type": "STATIC", "connect_timeout": "2s",
         "circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]},
         "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": addr(port)}}]}]}}
    if h2:
        c["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": T + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 128}}}}
    if sock:
        c["transport_socket"] = sock
    return c


def hcm(prefix, codec, clus, filters=None, log=None, vhosts=None):
    h = {"@type": HCM, "stat_prefix": prefix, "codec_type": codec,
         "route_config": {"name": prefix, "virtual_hosts": vhosts or [
             {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": clus, "timeout": "15s"}}]}]},
         "http_filters": (filters or []) + [ROUTER]}
    if log:
        h["access_log"] = [ext("envoy.access_loggers.file", "envoy.extensions.access_loggers.file.v3.FileAccessLog",
                               path=log, log_format={"text_format_source": {"inline_string": FMT}})]
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": h}


def listener(name, port, filters, sock=None):
    fc = {"filters": filters}
    if sock:
        fc["transport_socket"] = sock
    return {"name": name, "address": addr(port), "filter_chains": [fc]}


def tls_down(certs, mtls=False):
    ctx = {"alpn_protocols": ["http/1.1"],
           "tls_certificates": [{"certificate_chain": {"filename": certs + "/cert.pem"}, "private_key": {"filename": certs + "/key.pem"}}]}
    kw = {"common_tls_context": ctx}
    if mtls:
        ctx["validation_context"] = {"trusted_ca": {"filename": certs + "/cert.pem"}}
        kw["require_client_certificate"] = True
    return ext("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", **kw)


def tls_up(certs):
    return ext("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", sni="localhost",
               common_tls_context={
                   "alpn_protocols": ["http/1.1"],
                   "tls_certificates": [{"certificate_chain": {"filename": certs + "/cert.pem"}, "private_key": {"filename": certs + "/key.pem"}}],
                   "validation_context": {"trusted_ca": {"filename": certs + "/cert.pem"}}})


def sidecar_filters(names=None):
    """The chain of an Istio sidecar as far as a plain Envoy has it; `names` keeps some of it."""
    every = [
        ext("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"),
        ext("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors"),
        ext("envoy.filters.http.grpc_stats", "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", emit_filter_state=True),
        ext("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", rules={
            "action": "ALLOW", "policies": {"all": {"permissions": [{"any": True}], "principals": [{"any": True}]}}}),
    ]
    return [f for f in every if names is None or f["name"] in names]


def bootstrap(listeners, clusters, admin=None):
    b = {"node": {"id": "bench", "cluster": "bench"}, "static_resources": {"listeners": listeners, "clusters": clusters}}
    if admin:
        b["admin"] = {"address": addr(admin)}
    return b


def envoy_full(e, base, has):
    """one listener for each of the capabilities asked for"""
    ls, cs = [], []
    if "h1" in has:
        ls.append(listener("h1", base, [hcm("h1", "AUTO", "b1")]))
    if "h2c" in has:
        ls.append(listener("h2c", base + 1, [hcm("h2c", "HTTP2", "b1")]))
    if "h2h2" in has:
        ls.append(listener("h2h2", base + 2, [hcm("h2h2", "HTTP2", "b2")]))
        cs.append(cluster("b2", e.b2, True))
    if "tls" in has:
        ls.append(listener("tls", base + 3, [hcm("tls", "AUTO", "b1")], tls_down(e.certs)))
    if "tcp" in has:
        ls.append(listener("tcp", base + 4, [ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                                                 stat_prefix="tcp", cluster="bt")]))
        cs.append(cluster("bt", e.bt))
    return bootstrap(ls, [cluster("b1", e.b1)] + cs, base + 9)


def envoy_small(e, base):
    return bootstrap([listener("h1", base, [hcm("h1", "AUTO", "b1")])], [cluster("b1", e.b1)], base + 9)


def envoy_many(e, base, n):
    vh = [{"name": f"v{i}", "domains": [f"svc-{i}.ns.svc.cluster.local", f"svc-{i}.ns.svc.cluster.local:8080"],
           "routes": [{"match": {"prefix": "/"}, "route": {"cluster": f"outbound|8080||svc-{i}.ns.svc.cluster.local"}}]} for i in range(n - 1)]
    vh.append({"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "b1"}}]})
    cs = [cluster("b1", e.b1)] + [cluster(f"outbound|8080||svc-{i}.ns.svc.cluster.local", e.b1) for i in range(n - 1)]
    return bootstrap([listener("h1", base, [hcm("h1", "AUTO", "b1", vhosts=vh)])], cs, base + 9)


def envoy_hops(e, base, work, mtls=True, names=None):
    f = sidecar_filters(names)
    if not mtls:
        return (bootstrap([listener("out", base + 5, [hcm("out", "AUTO", "peer", f, work + "/hop1.log")])], [cluster("peer", base + 6)]),
                bootstrap([listener("in", base + 6, [hcm("in", "AUTO", "app", f, work + "/hop2.log")])], [cluster("app", e.b1)]))
    hop1 = bootstrap([listener("out", base + 5, [hcm("out", "AUTO", "peer", f, work + "/hop1.log")]),
                      listener("outm", base + 7, [hcm("outm", "AUTO", "peerm", f, work + "/hop1.log")])],
                     [cluster("peer", base + 6), cluster("peerm", base + 8, sock=tls_up(e.certs))])
    hop2 = bootstrap([listener("in", base + 6, [hcm("in", "AUTO", "app", f, work + "/hop2.log")]),
                      listener("inm", base + 8, [hcm("inm", "AUTO", "app", f, work + "/hop2.log")], tls_down(e.certs, True))],
                     [cluster("app", e.b1)])
    return hop1, hop2


class Envoy:
    """Any binary with Envoy's command line."""
    envoy_like = True
    has = {"h1", "h2c", "h2h2", "tls", "tcp", "side", "sidem", "many"}
    filters, lacks = None, []

    def __init__(self, name, command, has=None):
        self.name, self.command = name, command
        if has:
            self.has = set(has)

    def argv(self, cfg):
        c = self.command
        if any("{config}" in x for x in c):
            return [x.replace("{config}", cfg) for x in c]
        return c + ["-c", cfg, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]

    def ask(self, e):
        """Sets what the binary can do: the capabilities whose configuration it accepts."""
        can = set()
        names = [f["name"] for f in sidecar_filters()]
        if "side" in self.has:
            self.filters = [n for n in names if all(self.accepts(self._w(e.work, "ask.yaml", b)) for b in envoy_hops(e, 20000, e.work, False, [n]))]
            self.lacks = [n.rpartition(".")[2] for n in names if n not in self.filters]
        for cap in sorted(self.has - {"many"}):
            if cap.startswith("side"):
                boots = envoy_hops(e, 20000, e.work, cap == "sidem", self.filters)
            else:
                boots = [envoy_full(e, 20000, {cap})]
            if all(self.accepts(self._w(e.work, "ask.yaml", b)) for b in boots):
                can.add(cap)
        self.has = can | ({"many"} if "h1" in can else set())

    @staticmethod
    def accepts(argv):
        try:
            return subprocess.run(argv + ["--mode", "validate"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, timeout=20).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False

    def binary(self):
        for x in self.command:
            if os.path.isfile(x) and os.access(x, os.X_OK):
                return x
        return shutil.which(self.command[0])

    def _w(self, work, fn, boot):
        p = f"{work}/{fn}"
        with open(p, "w") as f:
            f.write(yaml(boot) + "\n")
        return self.argv(p)

    def full(self, e, base, work):
        return self._w(work, "full.yaml", envoy_full(e, base, self.has))

    def small(self, e, base, work):
        return self._w(work, "small.yaml", envoy_small(e, base))

    def many(self, e, base, work, n):
        return self._w(work, f"many{n}.yaml", envoy_many(e, base, n))

    def hops(self, e, base, work):
        a, b = envoy_hops(e, base, work, "sidem" in self.has, self.filters)
        return [self._w(work, "hop1.yaml", a), self._w(work, "hop2.yaml", b)]


# ---------------------------------------------------------------- nginx
NGX = """daemon off; worker_processes 1; pid {w}/{n}.pid; error_log {w}/{n}.err warn;
{mod}
events {{ worker_connections 10000; }}
http {{
  client_body_temp_path {w}/t1; proxy_temp_path {w}/t2; fastcgi_temp_path {w}/t3; uwsgi_temp_path {w}/t4; scgi_temp_path {w}/t5;
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; tcp_nodelay on;
  client_body_buffer_size 64k; proxy_buffer_size 16k; proxy_buffers 16 16k; proxy_max_temp_file_size 0;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
  log_format side '[$time_iso8601] "$request" $status $request_length $bytes_sent $request_time "$http_x_forwarded_for" "$http_user_agent" "$request_id" "$http_host" "$upstream_addr" $server_addr:$server_port $remote_addr:$remote_port $upstream_response_time';
  {http}
}}
{stream}
"""


def ups(name, port):
    return f"upstream {name} {{ server 127.0.0.1:{port}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 3600s; }}\n"


class Nginx:
    name, envoy_like = "nginx", False
    has = {"h1", "h2c", "tls", "tcp", "side", "sidem"}

    def __init__(self):
        self.bin = shutil.which("nginx") or "/usr/sbin/nginx"
        m = "/usr/lib/nginx/modules/ngx_stream_module.so"
        self.mod = f"load_module {m};" if os.path.exists(m) else ""
        if not self.mod:
            self.has = self.has - {"tcp"}

    def binary(self):
        return self.bin

    def _w(self, work, n, http, stream=""):
        p = f"{work}/{n}.conf"
        with open(p, "w") as f:
            f.write(NGX.format(w=work, n=n, http=http, stream=stream, mod=self.mod if stream else ""))
        return [self.bin, "-e", f"{work}/{n}.err", "-p", work, "-c", p]

    def full(self, e, base, work):
        loc = "location / { proxy_pass http://b1; } "
        http = ups("b1", e.b1) + f"""
  server {{ listen 127.0.0.1:{base} backlog=4096; {loc} }}
  server {{ listen 127.0.0.1:{base + 1} http2 backlog=4096; {loc} }}
  server {{ listen 127.0.0.1:{base + 3} ssl backlog=4096; ssl_certificate {e.certs}/cert.pem; ssl_certificate_key {e.certs}/key.pem; ssl_protocols TLSv1.2 TLSv1.3; {loc} }}"""
        st = f"stream {{ server {{ listen 127.0.0.1:{base + 4} backlog=4096; proxy_pass 127.0.0.1:{e.bt}; proxy_buffer_size 64k; tcp_nodelay on; }} }}" if self.mod else ""
        return self._w(work, "full", http, st)

    def small(self, e, base, work):
        return self._w(work, "small", ups("b1", e.b1) + f"server {{ listen 127.0.0.1:{base} backlog=4096; location / {{ proxy_pass http://b1; }} }}")

    def hops(self, e, base, work):
        ca = f"{e.certs}/cert.pem"
        key = f"{e.certs}/key.pem"
        h1 = ups("peer", base + 6) + ups("peerm", base + 8) + f"""
  access_log {work}/hop1.log side buffer=64k flush=1s;
  proxy_ssl_trusted_certificate {ca}; proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_server_name on;
  proxy_ssl_certificate {ca}; proxy_ssl_certificate_key {key}; proxy_ssl_protocols TLSv1.3;
  server {{ listen 127.0.0.1:{base + 5} backlog=4096; location / {{ proxy_pass http://peer; }} }}
  server {{ listen 127.0.0.1:{base + 7} backlog=4096; location / {{ proxy_pass https://peerm; }} }}"""
        h2 = ups("app", e.b1) + f"""
  access_log {work}/hop2.log side buffer=64k flush=1s;
  server {{ listen 127.0.0.1:{base + 6} backlog=4096; location / {{ proxy_pass http://app; }} }}
  server {{ listen 127.0.0.1:{base + 8} ssl backlog=4096; ssl_certificate {ca}; ssl_certificate_key {key}; ssl_client_certificate {ca}; ssl_verify_client on;
           ssl_protocols TLSv1.3; location / {{ proxy_pass http://app; }} }}"""
        return [self._w(work, "hop1", h1), self._w(work, "hop2", h2)]


def nginx_backend(port, work):
    """an h2c backend: 128 octets on every path"""
    n = Nginx()
    return n._w(work, "backend", f'server {{ listen 127.0.0.1:{port} http2 backlog=4096; http2_max_concurrent_streams 256; '
                                 f'location / {{ default_type text/plain; return 200 "{"a" * 128}"; }} }}')


# ---------------------------------------------------------------- haproxy
HAP = """global
  nbthread 1
  maxconn 6000
  tune.ssl.default-dh-param 2048
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
  timeout http-keep-alive 3600s
  option http-keep-alive
  http-reuse always
"""


class Haproxy:
    name, envoy_like = "haproxy", False
    has = {"h1", "h2c", "h2h2", "tls", "tcp", "side", "sidem"}

    def __init__(self):
        self.bin = shutil.which("haproxy") or "/usr/sbin/haproxy"

    def binary(self):
        return self.bin

    def _w(self, work, n, body):
        p = f"{work}/{n}.cfg"
        with open(p, "w") as f:
            f.write(HAP + body)
        return [self.bin, "-db", "-f", p]

    def full(self, e, base, work):
        return self._w(work, "full", f"""
frontend h1
  bind 127.0.0.1:{base}
  default_backend b1
frontend h2c
  bind 127.0.0.1:{base + 1} proto h2
  default_backend b1
frontend h2h2
  bind 127.0.0.1:{base + 2} proto h2
  default_backend b2
frontend tls
  bind 127.0.0.1:{base + 3} ssl crt {e.certs}/both.pem alpn http/1.1
  default_backend b1
listen tcp
  mode tcp
  bind 127.0.0.1:{base + 4}
  server t 127.0.0.1:{e.bt}
backend b1
  server s 127.0.0.1:{e.b1}
backend b2
  server s 127.0.0.1:{e.b2} proto h2
""")

    def small(self, e, base, work):
        return self._w(work, "small", f"""
frontend h1
  bind 127.0.0.1:{base}
  default_backend b1
backend b1
  server s 127.0.0.1:{e.b1}
""")

    def hops(self, e, base, work):
        # access log on stdout, which the harness appends to a file
        lg = "  log stdout format raw local0\n  option httplog\n"
        h1 = f"""
frontend out
{lg}  bind 127.0.0.1:{base + 5}
  default_backend peer
frontend outm
{lg}  bind 127.0.0.1:{base + 7}
  default_backend peerm
backend peer
  server s 127.0.0.1:{base + 6}
backend peerm
  server s 127.0.0.1:{base + 8} ssl crt {e.certs}/both.pem ca-file {e.certs}/cert.pem verify required verifyhost localhost sni str(localhost)
"""
        h2 = f"""
frontend in
{lg}  bind 127.0.0.1:{base + 6}
  default_backend app
frontend inm
{lg}  bind 127.0.0.1:{base + 8} ssl crt {e.certs}/both.pem ca-file {e.certs}/cert.pem verify required
  default_backend app
backend app
  server s 127.0.0.1:{e.b1}
"""
        return [self._w(work, "hop1", h1), self._w(work, "hop2", h2)]


# ---------------------------------------------------------------- h2o
class H2o:
    name, envoy_like = "h2o", False
    has = {"h1", "h2c", "tls"}

    def __init__(self):
        self.bin = shutil.which("h2o") or "/usr/bin/h2o"

    def binary(self):
        return self.bin

    def _w(self, work, n, e, listens):
        p = f"{work}/{n}.h2o"
        with open(p, "w") as f:
            f.write(f"""num-threads: 1
user: root
max-connections: 6000
http1-request-timeout: 3600
error-log: {work}/{n}.err
proxy.preserve-host: ON
proxy.timeout.keepalive: 3600000
{listens}
hosts:
  default:
    paths:
      "/":
        proxy.reverse.url: "http://127.0.0.1:{e.b1}/"
""")
        return [self.bin, "-m", "worker", "-c", p]

    def full(self, e, base, work):
        one = "listen: { host: 127.0.0.1, port: %d }\n"
        return self._w(work, "full", e, one % base + one % (base + 1) +
                       f"listen:\n  host: 127.0.0.1\n  port: {base + 3}\n  ssl: {{ certificate-file: {e.certs}/cert.pem, key-file: {e.certs}/key.pem, ocsp-update-interval: 0, minimum-version: TLSv1.2 }}")

    def small(self, e, base, work):
        return self._w(work, "small", e, "listen: { host: 127.0.0.1, port: %d }" % base)


# ---------------------------------------------------------------- nghttpx
class Nghttpx:
    name, envoy_like = "nghttpx", False
    has = {"h1", "h2c", "h2h2", "tls"}

    def __init__(self):
        self.bin = shutil.which("nghttpx") or "/usr/sbin/nghttpx"

    def binary(self):
        return self.bin

    def _a(self, e, work, n, fronts, h2):
        a = [self.bin, "--conf=/dev/null", "--workers=1", "--accesslog-file=/dev/null", f"--errorlog-file={work}/{n}.err", "--no-ocsp",
             f"--pid-file={work}/{n}.pid", "--backlog=4096", "--frontend-keep-alive-timeout=3600", "--frontend-http2-read-timeout=3600",
             f"--backend=127.0.0.1,{e.b1};/"]
        if h2:
            a += [f"--backend=127.0.0.1,{e.b2};/h2/;proto=h2"]
        return a + [f"--frontend=127.0.0.1,{x}" for x in fronts]

    def full(self, e, base, work):
        return self._a(e, work, "full", [f"{base};no-tls", f"{base + 1};no-tls", f"{base + 2};no-tls", f"{base + 3}"], True) + \
            [f"{e.certs}/key.pem", f"{e.certs}/cert.pem"]

    def small(self, e, base, work):
        return self._a(e, work, "small", [f"{base};no-tls"], False)
