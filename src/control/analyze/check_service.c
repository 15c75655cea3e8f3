/* Rules for ServiceEntry, WorkloadEntry and Sidecar: what Istio's webhook refuses. */
#include <string.h>

#include "base/map.h"
#include "control/analyze/check_priv.h"
#include "control/model/model.h"
#include "net/addr.h"

static bool is_ip(const char *s)
{
    struct mz_addr ip;
    return mz_addr_parse_ip(mz_str_c(s), 0, &ip);
}

/* "10.0.0.1" or "10.0.0.0/8". */
bool mz_check_is_subnet(const char *s)
{
    const struct mz_str text = mz_str_c(s);
    const ptrdiff_t slash = mz_str_chr(text, '/');
    struct mz_cidr range;
    struct mz_err ignored;
    uint64_t bits;
    if (slash < 0)
        return is_ip(s);
    return mz_str_u64(mz_str_skip(text, (size_t)slash + 1), &bits) &&
           bits <= (mz_str_chr(text, ':') < 0 ? 32u : 128u) &&
           mz_cidr_make((struct mz_str){ text.p, (size_t)slash }, (unsigned)bits, &range, &ignored);
}

bool mz_check_is_dns_label(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        const char c = mz_lower(s.p[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && i && i + 1 < s.n)))
            return false;
    }
    return s.n > 0 && s.n <= 63;
}

enum { LONGEST = 255 }; /* of a name */

static bool is_of_label(char c)
{
    const char low = mz_lower(c);
    return (low >= 'a' && low <= 'z') || (c >= '0' && c <= '9');
}

/* "a", "a.b_c-d", "example.com/a". */
static bool is_label_text(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_of_label(s.p[i]) && (!i || i + 1 == s.n || !strchr("-_.", s.p[i])))
            return false;
    return s.n > 0;
}

bool mz_check_label(const char *key, const char *value, const char *path, struct mz_err *err)
{
    struct mz_str name = mz_str_c(key), domain = MZ_STR("a");
    const ptrdiff_t slash = mz_str_chr(name, '/');
    if (slash >= 0) {
        domain = (struct mz_str){ name.p, (size_t)slash };
        name = mz_str_skip(name, (size_t)slash + 1);
    }
    bool ok = is_label_text(name) && name.n <= 63 && domain.n > 0 && domain.n <= 253;
    for (struct mz_str one; ok && mz_str_split(&domain, '.', &one);)
        ok = mz_check_is_dns_label(one);
    if (!ok)
        return AT(mz_err_set(err, "\"%.100s\" is no name of a label", key), "%s", path);
    return !value[0] || is_label_text(mz_str_c(value)) ||
           AT(mz_err_set(err, "\"%.100s\" is no value of a label", value), "%s", path);
}

/* A name is no number: what stands behind the last dot says so. */
static bool are_dns_labels(struct mz_str s)
{
    const struct mz_str top = mz_str_skip(s, (size_t)(mz_str_rchr(s, '.') + 1));
    uint64_t number;
    bool ok = !mz_str_u64(top, &number);
    if (!top.n && s.n && !--s.n)
        return false;
    for (struct mz_str one; ok && mz_str_split(&s, '.', &one);)
        ok = mz_check_is_dns_label(one);
    return ok;
}

bool mz_check_is_fqdn(struct mz_str s)
{
    return s.n > 0 && s.n <= LONGEST && are_dns_labels(s);
}

/* "a", "*", "*a" or "*-a". */
static bool is_first_label(struct mz_str s)
{
    const bool wild = mz_str_starts(s, MZ_STR("*"));
    const struct mz_str rest = mz_str_skip(s, !wild ? 0 : s.n > 1 && s.p[1] == '-' ? 2 : 1);
    return s.n <= 63 && ((wild && s.n == 1) || mz_check_is_dns_label(rest));
}

bool mz_check_is_host(struct mz_str s)
{
    const ptrdiff_t dot = mz_str_chr(s, '.');
    const struct mz_str first = { s.p, dot < 0 ? s.n : (size_t)dot };
    return s.n > 0 && s.n <= LONGEST && is_first_label(first) &&
           (dot < 0 || are_dns_labels(mz_str_skip(s, (size_t)dot + 1)));
}

bool mz_check_is_whole_host(struct mz_str s)
{
    return mz_str_eq(s, MZ_STR("*")) || (mz_check_is_host(s) && mz_str_chr(s, '.') >= 0 &&
                                         (s.p[0] != '*' || mz_str_starts(s, MZ_STR("*."))));
}

/* "unix://" is cut already. */
static bool is_socket(struct mz_str path)
{
    return mz_str_starts(path, MZ_STR("@")) ||
           (mz_str_starts(path, MZ_STR("/")) && !mz_str_ends(path, MZ_STR("/")));
}

static bool is_port(uint32_t port)
{
    return port >= 1 && port <= UINT16_MAX;
}

static bool port(uint32_t number, const char *path, struct mz_err *err)
{
    return is_port(number) ? true
                           : AT(mz_err_set(err, "must be in 1..65535, is %u", number), "%s", path);
}

/* ---- WorkloadEntry ---- */

static bool has_port(const ist_ServiceEntry *e, const char *name)
{
    for (size_t i = 0; i < e->n_ports; i++)
        if (strcmp(e->ports[i]->name, name) == 0)
            return true;
    return false;
}

/* @of: the ServiceEntry that has it, or NULL. @names: it may be looked up. */
static bool workload(const ist_WorkloadEntry *w, const ist_ServiceEntry *of, bool names,
                     struct mz_err *err)
{
    const struct mz_str address = mz_str_c(w->address), path = MZ_STR("unix://");
    if (!address.n)
        return w->network[0] ? true : AT(mz_err_set(err, "is required"), "address");
    if (mz_str_starts(address, path)) {
        if (!is_socket(mz_str_skip(address, path.n)))
            return AT(mz_err_set(err, "\"%.100s\" is not an absolute path of a file", w->address),
                      "address");
        if (w->n_ports)
            return AT(mz_err_set(err, "a UNIX socket has none"), "ports");
        if (of && of->n_ports != 1)
            return AT(mz_err_set(err, "a UNIX socket serves exactly one port"), "address");
    } else if (!is_ip(w->address) && !(names && mz_check_is_fqdn(address))) {
        return AT(mz_err_set(err, "\"%.100s\" is not a valid IP address%s", w->address,
                             names ? " or name" : ""),
                  "address");
    }
    for (size_t i = 0; i < w->n_ports; i++) {
        if (of && !has_port(of, w->ports[i]->key))
            return AT(mz_err_set(err, "the service entry has no port \"%.60s\"", w->ports[i]->key),
                      "ports");
        if (!mz_check_is_dns_label(mz_str_c(w->ports[i]->key)))
            return AT(mz_err_set(err, "\"%.60s\" is no name of a port", w->ports[i]->key), "ports");
        if (!port(w->ports[i]->value, "ports", err))
            return false;
    }
    MZ_CHECK_LABELS(w, labels);
    return true;
}

bool mz_check_workload_entry(const ist_WorkloadEntry *w, struct mz_err *err)
{
    return workload(w, NULL, true, err);
}

/* ---- WorkloadGroup ---- */

static bool is_not_negative(int32_t v, const char *path, struct mz_err *err)
{
    return v >= 0 || AT(mz_err_set(err, "must not be negative, is %d", v), "%s", path);
}

static bool is_probe_header(const char *s)
{
    const char *end = s;
    while (is_of_label(*end) || *end == '-')
        end++;
    return s[0] && !*end;
}

static bool http_probe(const ist_HTTPHealthCheckConfig *h, struct mz_err *err)
{
    if (!port(h->port, "port", err))
        return false;
    if (h->scheme[0] && strcmp(h->scheme, "HTTP") != 0 && strcmp(h->scheme, "HTTPS") != 0)
        return AT(mz_err_set(err, "must be HTTP or HTTPS"), "scheme");
    for (size_t i = 0; i < h->n_http_headers; i++)
        if (!is_probe_header(h->http_headers[i]->name))
            return AT(
                mz_err_set(err, "\"%.100s\" is no name of a header", h->http_headers[i]->name),
                "http_headers[%zu].name", i);
    return true;
}

static bool probe_method(const ist_ReadinessProbe *p, struct mz_err *err)
{
    switch (p->health_check_method_case) {
    case ist_ReadinessProbe_HEALTH_CHECK_METHOD_HTTP_GET:
        return http_probe(p->http_get, err) || mz_err_at(err, "http_get");
    case ist_ReadinessProbe_HEALTH_CHECK_METHOD_TCP_SOCKET:
        return port(p->tcp_socket->port, "tcp_socket.port", err);
    case ist_ReadinessProbe_HEALTH_CHECK_METHOD_GRPC:
        return port(p->grpc->port, "grpc.port", err);
    case ist_ReadinessProbe_HEALTH_CHECK_METHOD_EXEC:
        return p->exec->n_command ? true : AT(mz_err_set(err, "is required"), "exec.command");
    default:
        return mz_err_set(err, "needs one of httpGet, tcpSocket, exec, grpc");
    }
}

static bool probe(const ist_ReadinessProbe *p, struct mz_err *err)
{
    return is_not_negative(p->period_seconds, "period_seconds", err) &&
           is_not_negative(p->initial_delay_seconds, "initial_delay_seconds", err) &&
           is_not_negative(p->timeout_seconds, "timeout_seconds", err) &&
           is_not_negative(p->success_threshold, "success_threshold", err) &&
           is_not_negative(p->failure_threshold, "failure_threshold", err) && probe_method(p, err);
}

bool mz_check_workload_group(const ist_WorkloadGroup *g, struct mz_err *err)
{
    if (!g->template_)
        return AT(mz_err_set(err, "is required"), "template");
    for (size_t i = 0; g->metadata && i < g->metadata->n_labels; i++)
        if (!mz_check_label(g->metadata->labels[i]->key, g->metadata->labels[i]->value,
                            "metadata.labels", err))
            return false;
    return !g->probe || probe(g->probe, err) || mz_err_at(err, "probe");
}

/* ---- ServiceEntry ---- */

static bool hosts(const ist_ServiceEntry *e, struct mz_err *err)
{
    if (!e->n_hosts)
        return AT(mz_err_set(err, "needs at least one"), "hosts");
    for (size_t i = 0; i < e->n_hosts; i++)
        if (strcmp(e->hosts[i], "*") == 0 || !mz_check_is_host(mz_str_c(e->hosts[i])))
            return AT(mz_err_set(err, "\"%.100s\" is not a host", e->hosts[i]), "hosts[%zu]", i);
    return true;
}

static bool addresses(const ist_ServiceEntry *e, struct mz_err *err)
{
    const bool ranges = e->resolution == ist_ServiceEntry_Resolution_NONE ||
                        e->resolution == ist_ServiceEntry_Resolution_STATIC;
    for (size_t i = 0; i < e->n_addresses; i++) {
        if (!mz_check_is_subnet(e->addresses[i]))
            return AT(
                mz_err_set(err, "\"%.100s\" is neither an address nor a range", e->addresses[i]),
                "addresses[%zu]", i);
        if (!ranges && strchr(e->addresses[i], '/'))
            return AT(mz_err_set(err, "ranges need resolution NONE or STATIC"), "addresses[%zu]",
                      i);
    }
    return true;
}

static bool ports(const ist_ServiceEntry *e, struct mz_err *err)
{
    for (size_t i = 0; i < e->n_ports; i++) {
        const ist_ServicePort *p = e->ports[i];
        if (!port(p->number, "number", err) ||
            (p->target_port && !port(p->target_port, "target_port", err)))
            return mz_err_at(err, "ports[%zu]", i);
        if (!mz_check_is_dns_label(mz_str_c(p->name)))
            return AT(mz_err_set(err, "\"%.60s\" is no name of a port", p->name), "ports[%zu].name",
                      i);
        if (p->protocol[0] && mz_protocol_parse(mz_str_c(p->protocol)) == MZ_PROTOCOL_UNKNOWN)
            return AT(mz_err_set(err, "\"%.60s\" is not known", p->protocol), "ports[%zu].protocol",
                      i);
        for (size_t k = 0; k < i; k++) {
            if (e->ports[k]->number == p->number)
                return AT(mz_err_set(err, "%u is already defined", p->number), "ports[%zu].number",
                          i);
            if (strcmp(e->ports[k]->name, p->name) == 0)
                return AT(mz_err_set(err, "\"%.60s\" is already defined", p->name),
                          "ports[%zu].name", i);
        }
    }
    return true;
}

static bool is_by_name(const ist_ServiceEntry *e)
{
    return e->resolution == ist_ServiceEntry_Resolution_DNS ||
           e->resolution == ist_ServiceEntry_Resolution_DNS_ROUND_ROBIN;
}

static bool endpoint(const ist_ServiceEntry *e, const ist_WorkloadEntry *w, struct mz_err *err)
{
    if (is_by_name(e) && mz_str_starts(mz_str_c(w->address), MZ_STR("unix://")))
        return AT(mz_err_set(err, "\"%.100s\" cannot be looked up", w->address), "address");
    return workload(w, e, is_by_name(e), err);
}

static bool selector(const ist_networking_LabelSelector *s, struct mz_err *err)
{
    for (size_t i = 0; s && i < s->n_labels; i++) {
        const char *key = s->labels[i]->key, *value = s->labels[i]->value;
        if (!key[0])
            return AT(mz_err_set(err, "a key must not be empty"), "workload_selector.labels");
        if (strchr(key, '*') || strchr(value, '*'))
            return AT(mz_err_set(err, "\"%.100s=%.100s\": wildcards are not supported", key, value),
                      "workload_selector.labels");
    }
    return true;
}

static bool endpoints(const ist_ServiceEntry *e, struct mz_err *err)
{
    if (e->n_endpoints && e->workload_selector)
        return AT(mz_err_set(err, "cannot stand beside workload_selector"), "endpoints");
    if (e->n_endpoints && e->resolution == ist_ServiceEntry_Resolution_NONE)
        return AT(mz_err_set(err, "resolution NONE has none"), "endpoints");
    if (e->n_endpoints > 1 && e->resolution == ist_ServiceEntry_Resolution_DNS_ROUND_ROBIN)
        return AT(mz_err_set(err, "resolution DNS_ROUND_ROBIN has one at most"), "endpoints");
    for (size_t i = 0; i < e->n_endpoints; i++)
        if (!endpoint(e, e->endpoints[i], err))
            return mz_err_at(err, "endpoints[%zu]", i);
    for (size_t i = 0; is_by_name(e) && !e->n_endpoints && i < e->n_hosts; i++)
        if (!mz_check_is_fqdn(mz_str_c(e->hosts[i])))
            return AT(mz_err_set(err, "\"%.100s\" cannot be looked up, and there are no endpoints",
                                 e->hosts[i]),
                      "hosts[%zu]", i);
    return true;
}

/* Names are those of requests and of TLS clients: nothing else is said of where it goes. */
static bool dynamic(const ist_ServiceEntry *e, struct mz_err *err)
{
    static const char *const named[] = { "HTTP", "HTTP2", "GRPC", "TLS" };
    if (e->resolution != ist_ServiceEntry_Resolution_DYNAMIC_DNS)
        return true;
    for (size_t i = 0; i < e->n_hosts; i++)
        if (e->hosts[i][0] != '*')
            return AT(mz_err_set(err, "\"%.100s\" is no wildcard, as resolution DYNAMIC_DNS wants",
                                 e->hosts[i]),
                      "hosts[%zu]", i);
    if (e->n_addresses)
        return AT(mz_err_set(err, "resolution DYNAMIC_DNS has none"), "addresses");
    if (e->n_endpoints)
        return AT(mz_err_set(err, "resolution DYNAMIC_DNS has none"), "endpoints");
    for (size_t i = 0; i < e->n_ports; i++) {
        bool ok = false;
        for (size_t k = 0; k < sizeof(named) / sizeof(*named); k++)
            ok |= mz_str_ieq(mz_str_c(e->ports[i]->protocol), mz_str_c(named[k]));
        if (!ok)
            return AT(mz_err_set(err, "resolution DYNAMIC_DNS wants HTTP, HTTP2, GRPC or TLS"),
                      "ports[%zu].protocol", i);
    }
    return true;
}

/* Without a name in the request several hosts could not be told apart. */
static bool several_hosts(const ist_ServiceEntry *e, struct mz_err *err)
{
    static const char *const named[] = { "HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TLS" };
    if (e->n_hosts < 2 || e->resolution == ist_ServiceEntry_Resolution_NONE)
        return true;
    for (size_t i = 0; i < e->n_ports; i++) {
        bool ok = false;
        for (size_t k = 0; k < sizeof(named) / sizeof(*named); k++)
            ok |= mz_str_ieq(mz_str_c(e->ports[i]->protocol), mz_str_c(named[k]));
        if (!ok)
            return AT(mz_err_set(err, "several hosts need a protocol that names them"),
                      "ports[%zu].protocol", i);
    }
    return true;
}

/* A DNS label: what a namespace may be called. */
static bool is_namespace(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') ||
              (s.p[i] == '-' && i && i + 1 < s.n)))
            return false;
    return s.n > 0 && s.n <= 63;
}

bool mz_check_count(size_t n, size_t most, const char *path, struct mz_err *err)
{
    return n <= most ||
           AT(mz_err_set(err, "has %zu items, at most %zu may be", n, most), "%s", path);
}

bool mz_check_differ(char *const *v, size_t n, struct mz_err *err)
{
    struct mz_map seen;
    size_t i = 0;
    mz_map_init(&seen, MZ_MEM_CONFIG);
    while (i < n && !mz_map_put(&seen, mz_str_c(v[i]), &seen))
        i++;
    mz_map_fini(&seen);
    return i == n || AT(mz_err_set(err, "\"%.100s\" stands twice", v[i]), "[%zu]", i);
}

bool mz_check_exports(char *const *v, size_t n, bool may_be_nobody, struct mz_err *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct mz_str s = mz_str_c(v[i]);
        const bool nobody = may_be_nobody && mz_str_eq(s, MZ_STR("~"));
        if (!nobody && !mz_str_eq(s, MZ_STR(".")) && !mz_str_eq(s, MZ_STR("*")) && !is_namespace(s))
            return AT(mz_err_set(err, "only \".\", \"*\" or a namespace, is \"%.100s\"", v[i]),
                      "export_to[%zu]", i);
        if (n > 1 && (nobody || mz_str_eq(s, MZ_STR("*"))))
            return AT(mz_err_set(err, "\"%s\" stands alone", v[i]), "export_to[%zu]", i);
    }
    return mz_check_differ(v, n, err) || mz_err_at(err, "export_to");
}

/* Lists are as long as Istio's definition of the kind lets them be; what they multiply to is bounded, too. */
static bool lengths(const ist_ServiceEntry *e, struct mz_err *err)
{
    enum { MAX = 256, MAX_ENDPOINTS = 4096, MAX_PORTS_ALL = 16384, MAX_ENDPOINTS_ALL = 262144 };
    const struct {
        const char *path;
        size_t n, most;
    } lists[] = { { "hosts", e->n_hosts, MAX },
                  { "addresses", e->n_addresses, MAX },
                  { "ports", e->n_ports, MAX },
                  { "endpoints", e->n_endpoints, MAX_ENDPOINTS } };
    for (size_t i = 0; i < MZ_COUNT(lists); i++)
        if (!mz_check_count(lists[i].n, lists[i].most, lists[i].path, err))
            return false;
    const size_t names = e->n_hosts * e->n_ports,
                 listeners = names * (e->n_addresses ? e->n_addresses : 1),
                 endpoints = names * e->n_endpoints;
    if (listeners > MAX_PORTS_ALL)
        return AT(mz_err_set(err, "hosts, ports and addresses multiply to %zu, at most %d may be",
                             listeners, MAX_PORTS_ALL),
                  "ports");
    return endpoints <= MAX_ENDPOINTS_ALL ||
           AT(mz_err_set(err, "hosts, ports and endpoints multiply to %zu, at most %d may be",
                         endpoints, MAX_ENDPOINTS_ALL),
              "endpoints");
}

bool mz_check_service_entry(const ist_ServiceEntry *e, struct mz_err *err)
{
    return lengths(e, err) && selector(e->workload_selector, err) && hosts(e, err) &&
           addresses(e, err) && ports(e, err) && endpoints(e, err) && dynamic(e, err) &&
           several_hosts(e, err) && mz_check_exports(e->export_to, e->n_export_to, true, err);
}

/* ---- Sidecar ---- */

static bool default_endpoint(const char *text, struct mz_err *err)
{
    static const char *const hosts[] = { "", "127.0.0.1", "0.0.0.0", "[::1]", "[::]" };
    const struct mz_str t = mz_str_c(text);
    const ptrdiff_t colon = mz_str_rchr(t, ':');
    uint64_t number;
    if (!t.n || (mz_str_starts(t, MZ_STR("unix://")) && is_socket(mz_str_skip(t, 7))))
        return true;
    bool known = false;
    for (size_t i = 0; colon >= 0 && i < sizeof(hosts) / sizeof(*hosts); i++)
        known |= mz_str_eq((struct mz_str){ t.p, (size_t)colon }, mz_str_c(hosts[i]));
    if (known && mz_str_u64(mz_str_skip(t, (size_t)colon + 1), &number) && number >= 1 &&
        number <= UINT16_MAX)
        return true;
    return AT(mz_err_set(err,
                         "\"%.100s\" is none of 127.0.0.1:port, 0.0.0.0:port, [::1]:port, "
                         "[::]:port, unix:///path",
                         text),
              "default_endpoint");
}

static bool server_tls(const ist_ServerTLSSettings *t, const ist_SidecarPort *p, struct mz_err *err)
{
    const bool mutual = t && t->mode == ist_ServerTLSSettings_TLSmode_MUTUAL;
    const bool own = mutual || (t && t->mode == ist_ServerTLSSettings_TLSmode_SIMPLE);
    if (!t)
        return true;
    const struct {
        const char *name;
        bool said;
    } foreign[] = { { "subject_alt_names", t->n_subject_alt_names },
                    { "https_redirect", t->https_redirect },
                    { "credential_name", t->credential_name[0] },
                    { "credential_names", t->n_credential_names },
                    { "tls_certificates", t->n_tls_certificates } };
    if (t->mode == ist_ServerTLSSettings_TLSmode_ISTIO_MUTUAL ||
        t->mode == ist_ServerTLSSettings_TLSmode_AUTO_PASSTHROUGH)
        return AT(mz_err_set(err, "cannot be had at a sidecar"), "tls.mode");
    for (size_t i = 0; i < MZ_COUNT(foreign); i++)
        if (foreign[i].said)
            return AT(mz_err_set(err, "cannot be had at a sidecar"), "tls.%s", foreign[i].name);
    if (strcmp(p->protocol, "HTTPS") != 0 && strcmp(p->protocol, "TLS") != 0)
        return AT(mz_err_set(err, "needs a port of HTTPS or TLS"), "tls");
    if (own && !t->server_certificate[0])
        return AT(mz_err_set(err, "is required"), "tls.server_certificate");
    if (own && !t->private_key[0])
        return AT(mz_err_set(err, "is required"), "tls.private_key");
    return !mutual || t->ca_certificates[0]
               ? true
               : AT(mz_err_set(err, "is required"), "tls.ca_certificates");
}

/* "" is whatever the first bytes look like. */
static bool known_protocol(const ist_SidecarPort *p, struct mz_err *err)
{
    const struct mz_str said = mz_str_c(p->protocol);
    if (p->name[0] && !mz_check_is_dns_label(mz_str_c(p->name)))
        return AT(mz_err_set(err, "\"%.60s\" is no name of a port", p->name), "port.name");
    return !said.n || mz_protocol_parse(said) != MZ_PROTOCOL_UNKNOWN ||
           mz_str_ieq(said, MZ_STR("HTTP_PROXY")) ||
           AT(mz_err_set(err, "\"%.60s\" is not known", p->protocol), "port.protocol");
}

/* One bit each, of those that listeners before had. */
struct ports {
    uint64_t had[1024];
    struct mz_map paths; /* of sockets that have none */
};

static bool once(struct ports *p, uint32_t number, struct mz_err *err)
{
    uint64_t *word = &p->had[number / 64 % 1024];
    const uint64_t bit = 1ull << number % 64;
    if (*word & bit)
        return AT(mz_err_set(err, "%u is already defined", number), "port.number");
    *word |= bit;
    return true;
}

static bool ingress(const ist_Sidecar *s, size_t i, struct ports *had, struct mz_err *err)
{
    const ist_IstioIngressListener *l = s->ingress[i];
    if (!l->port)
        return AT(mz_err_set(err, "is required"), "port");
    if (!port(l->port->number, "port.number", err) || !known_protocol(l->port, err) ||
        !once(had, l->port->number, err))
        return false;
    if (l->bind[0] && !is_ip(l->bind))
        return AT(mz_err_set(err, "\"%.100s\" is not an IP address", l->bind), "bind");
    return default_endpoint(l->default_endpoint, err) && server_tls(l->tls, l->port, err) &&
           (mz_check_connection_pool(l->connection_pool, err) || mz_err_at(err, "connection_pool"));
}

/* "namespace/host", each may be "*"; "./" is the document's, "~/" nothing. */
static bool imported(const char *text, struct mz_err *err)
{
    const struct mz_str t = mz_str_c(text);
    const ptrdiff_t slash = mz_str_chr(t, '/');
    struct mz_str ns = { t.p, slash < 0 ? 0 : (size_t)slash };
    const struct mz_str host = slash < 0 ? t : mz_str_skip(t, (size_t)slash + 1);
    if (slash < 0)
        return mz_err_set(err, "\"%.100s\" is not namespace/host", text);
    if (mz_str_starts(ns, MZ_STR("~")))
        ns = ns.n > 1 ? mz_str_skip(ns, 1) : MZ_STR("*");
    if (!mz_str_eq(ns, MZ_STR("*")) && !mz_str_eq(ns, MZ_STR(".")) && !mz_check_is_dns_label(ns))
        return mz_err_set(err, "\"%.100s\": no such namespace can be", text);
    return mz_check_is_whole_host(host) || mz_err_set(err, "\"%.100s\": that is no host", text);
}

/* "unix:///path" or "unix://@name"; its port is 0, and what comes there was never caught. */
static bool egress_socket(const ist_IstioEgressListener *l, struct mz_err *err)
{
    if (!is_socket(mz_str_skip(mz_str_c(l->bind), strlen("unix://"))))
        return AT(mz_err_set(err, "\"%.100s\" is not an absolute path of a file", l->bind), "bind");
    if (!l->port || l->port->number)
        return AT(mz_err_set(err, "has to be 0 for a UNIX socket"), "port.number");
    return l->capture_mode != ist_CaptureMode_IPTABLES ||
           AT(mz_err_set(err, "nothing is caught for a UNIX socket"), "capture_mode");
}

static bool egress_port(const ist_IstioEgressListener *l, struct ports *had, struct mz_err *err)
{
    if (strncmp(l->bind, "unix://", 7) == 0)
        return egress_socket(l, err) &&
               (!mz_map_put(&had->paths, mz_str_c(l->bind), had) ||
                AT(mz_err_set(err, "\"%.100s\" is already defined", l->bind), "bind"));
    if (l->bind[0] && !is_ip(l->bind))
        return AT(mz_err_set(err, "\"%.100s\" is not an IP address", l->bind), "bind");
    return !l->port ||
           (port(l->port->number, "port.number", err) && once(had, l->port->number, err));
}

static bool egress(const ist_Sidecar *s, size_t i, struct ports *had, struct mz_err *err)
{
    const ist_IstioEgressListener *l = s->egress[i];
    if (!l->port && i + 1 < s->n_egress)
        return AT(mz_err_set(err, "only the last one may have none"), "port");
    if (l->port && !known_protocol(l->port, err))
        return false;
    if (!l->n_hosts)
        return AT(mz_err_set(err, "needs at least one"), "hosts");
    for (size_t k = 0; k < l->n_hosts; k++)
        if (!imported(l->hosts[k], err))
            return mz_err_at(err, "hosts[%zu]", k);
    return egress_port(l, had, err);
}

static bool leaving(const ist_OutboundTrafficPolicy *p, struct mz_err *err)
{
    const ist_Destination *by = p ? p->egress_proxy : NULL;
    if (p && p->mode > ist_OutboundTrafficPolicy_Mode_ALLOW_ANY)
        return AT(mz_err_set(err, "is REGISTRY_ONLY or ALLOW_ANY; others are the MeshConfig's"),
                  "mode");
    if (!by)
        return true;
    if (p->mode != ist_OutboundTrafficPolicy_Mode_ALLOW_ANY)
        return AT(mz_err_set(err, "is for ALLOW_ANY only"), "egress_proxy");
    if (!mz_check_is_fqdn(mz_str_c(by->host)))
        return AT(mz_err_set(err, "\"%.100s\" is no host", by->host), "egress_proxy.host");
    if (!by->port)
        return AT(mz_err_set(err, "is required"), "egress_proxy.port");
    if (!port(by->port->number, "egress_proxy.port.number", err))
        return false;
    return !by->subset[0] || mz_check_is_dns_label(mz_str_c(by->subset)) ||
           AT(mz_err_set(err, "\"%.100s\" is no name", by->subset), "egress_proxy.subset");
}

static bool listeners(const ist_Sidecar *s, struct ports *in, struct ports *out, struct mz_err *err)
{
    for (size_t i = 0; i < s->n_ingress; i++)
        if (!ingress(s, i, in, err))
            return mz_err_at(err, "ingress[%zu]", i);
    for (size_t i = 0; i < s->n_egress; i++)
        if (!egress(s, i, out, err))
            return mz_err_at(err, "egress[%zu]", i);
    return true;
}

bool mz_check_sidecar(const ist_Sidecar *s, struct mz_err *err)
{
    struct ports in = { 0 }, out = { 0 };
    if (!s->n_egress && !s->n_ingress && !s->outbound_traffic_policy && !s->inbound_connection_pool)
        return mz_err_set(err, "says nothing");
    if (!selector(s->workload_selector, err))
        return false;
    mz_map_init(&out.paths, MZ_MEM_CONFIG);
    const bool ok = listeners(s, &in, &out, err);
    mz_map_fini(&out.paths);
    if (!ok)
        return false;
    if (!leaving(s->outbound_traffic_policy, err))
        return mz_err_at(err, "outbound_traffic_policy");
    return mz_check_connection_pool(s->inbound_connection_pool, err) ||
           mz_err_at(err, "inbound_connection_pool");
}
