/* Rules for Gateways: what Istio's webhook refuses. */
#include <string.h>

#include "base/map.h"
#include "control/analyze/check_priv.h"
#include "control/model/model.h"
#include "net/addr.h"

/* "host", "namespace/host", "./host", "*" and "*.host". */
static bool host(const char *text, struct mz_err *err)
{
    struct mz_str h = mz_str_c(text), ns = MZ_STR("*");
    const ptrdiff_t slash = mz_str_chr(h, '/');
    struct mz_addr ip;
    if (slash >= 0) {
        ns = (struct mz_str){ h.p, (size_t)slash };
        h = mz_str_skip(h, (size_t)slash + 1);
    }
    if (!mz_str_eq(ns, MZ_STR("*")) && !mz_str_eq(ns, MZ_STR(".")) && !mz_check_is_dns_label(ns))
        return mz_err_set(err, "\"%.100s\": no such namespace can be", text);
    return mz_check_is_whole_host(h) || (mz_str_chr(h, '.') >= 0 && mz_addr_parse_ip(h, 0, &ip)) ||
           mz_err_set(err, "\"%.100s\" is neither a host nor namespace/host", text);
}

static bool certificates(const ist_ServerTLSSettings *t, struct mz_err *err)
{
    const bool mutual = t->mode == ist_ServerTLSSettings_TLSmode_MUTUAL ||
                        t->mode == ist_ServerTLSSettings_TLSmode_OPTIONAL_MUTUAL;
    const bool own = mutual || t->mode == ist_ServerTLSSettings_TLSmode_SIMPLE;
    if (t->mode == ist_ServerTLSSettings_TLSmode_ISTIO_MUTUAL &&
        (t->credential_name[0] || t->n_credential_names || t->server_certificate[0] ||
         t->private_key[0] || t->ca_certificates[0] || t->n_tls_certificates))
        return mz_err_set(err, "ISTIO_MUTUAL has the mesh's certificates and no others");
    if ((t->credential_name[0] != 0) + (t->n_credential_names > 0) +
            (t->server_certificate[0] && t->private_key[0]) + (t->n_tls_certificates > 0) >
        1)
        return mz_err_set(err, "only one of credential_name, credential_names, tls_certificates "
                               "and server_certificate with private_key can be set");
    if (t->ca_crl[0] && t->credential_name[0])
        return AT(mz_err_set(err, "stands in the Secret of credential_name, or not at all"),
                  "ca_crl");
    if (t->ca_crl[0] && t->mode == ist_ServerTLSSettings_TLSmode_SIMPLE)
        return AT(mz_err_set(err, "clients have no certificates in SIMPLE"), "ca_crl");
    if (!own || t->credential_name[0] || t->n_credential_names)
        return true;
    for (size_t i = 0; i < t->n_tls_certificates; i++)
        if (!t->tls_certificates[i]->server_certificate[0] ||
            !t->tls_certificates[i]->private_key[0])
            return AT(mz_err_set(err, "needs server_certificate and private_key"),
                      "tls_certificates[%zu]", i);
    if (!t->n_tls_certificates && (!t->server_certificate[0] || !t->private_key[0]))
        return mz_err_set(
            err, "needs credential_name, tls_certificates, or server_certificate and private_key");
    return !mutual || t->ca_certificates[0] ||
           AT(mz_err_set(err, "is required"), "ca_certificates");
}

static bool tls(const ist_Server *s, enum mz_protocol p, struct mz_err *err)
{
    const bool needs = p == MZ_PROTOCOL_HTTPS || p == MZ_PROTOCOL_TLS;
    if (!s->tls)
        return !needs || AT(mz_err_set(err, "is required of HTTPS and TLS"), "tls");
    if (!needs && !mz_protocol_is_http(p))
        return AT(mz_err_set(err, "needs a port of HTTPS or TLS"), "tls");
    if (mz_protocol_is_http(p) &&
        (s->tls->mode != ist_ServerTLSSettings_TLSmode_PASSTHROUGH || s->tls->credential_name[0]))
        return AT(mz_err_set(err, "plain HTTP can only be redirected"), "tls");
    if (s->tls->max_protocol_version && s->tls->min_protocol_version > s->tls->max_protocol_version)
        return AT(mz_err_set(err, "is above the highest"), "tls.min_protocol_version");
    return mz_protocol_is_http(p) || certificates(s->tls, err) || mz_err_at(err, "tls");
}

static bool server(const ist_Server *s, struct mz_err *err)
{
    struct mz_addr ip;
    if (!s->port)
        return AT(mz_err_set(err, "is required"), "port");
    if (!s->port->number || s->port->number > UINT16_MAX)
        return AT(mz_err_set(err, "must be in 1..65535, is %u", s->port->number), "port.number");
    const enum mz_protocol p = mz_protocol_parse(mz_str_c(s->port->protocol));
    if (p == MZ_PROTOCOL_UNKNOWN || p == MZ_PROTOCOL_UDP)
        return AT(mz_err_set(err, "\"%.40s\" is not served at gateways", s->port->protocol),
                  "port.protocol");
    if (!s->port->name[0])
        return AT(mz_err_set(err, "is required"), "port.name");
    if (s->bind[0] && !mz_addr_parse_ip(mz_str_c(s->bind), 0, &ip))
        return AT(mz_err_set(err, "\"%.100s\" is not an IP address", s->bind), "bind");
    if (!s->n_hosts)
        return AT(mz_err_set(err, "needs at least one"), "hosts");
    for (size_t i = 0; i < s->n_hosts; i++)
        if (!host(s->hosts[i], err))
            return mz_err_at(err, "hosts[%zu]", i);
    return tls(s, p, err);
}

static bool names_differ(const ist_Gateway *m, struct mz_err *err)
{
    struct mz_map seen;
    bool ok = true;
    mz_map_init(&seen, MZ_MEM_CONFIG);
    for (size_t i = 0; ok && i < m->n_servers; i++)
        if (mz_map_put(&seen, mz_str_c(m->servers[i]->port->name), m->servers[i]))
            ok = AT(mz_err_set(err, "\"%.100s\" stands twice", m->servers[i]->port->name),
                    "servers[%zu].port.name", i);
    mz_map_fini(&seen);
    return ok;
}

bool mz_check_gateway(const ist_Gateway *m, struct mz_err *err)
{
    if (!m->n_servers)
        return AT(mz_err_set(err, "needs at least one"), "servers");
    for (size_t i = 0; i < m->n_servers; i++)
        if (!server(m->servers[i], err))
            return mz_err_at(err, "servers[%zu]", i);
    return names_differ(m, err);
}
