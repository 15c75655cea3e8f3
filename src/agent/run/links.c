/* The ways to control plane, authority and the proxy's admin pages. */
#include <string.h>

#include "agent/agent.h"
#include "agent/run/run_priv.h"
#include "agent/tree.h"
#include "base/log.h"

#define ROOT     "./var/run/secrets/istio/root-cert.pem"
#define OLD_ROOT "./etc/certs/root-cert.pem" /* of workloads whose certificates are mounted */
#define SYSTEM   "SYSTEM"

static const char *meta(const struct agent *g, const char *name, struct mz_arena *a)
{
    return mz_arena_dup(a, member_text(g->boot.metadata, name)).p;
}

static bool is_file_mounted(const struct agent *g)
{
    bool on = false;
    (void)mz_agent_bool(agent_env(g, "FILE_MOUNTED_CERTS", "false"), &on);
    return on;
}

/* "": the system's authorities are trusted. */
static bool root_of(struct agent *g, const char *variable, bool control_plane, struct mz_arena *a,
                    struct mz_str *out, struct mz_err *err)
{
    const char *set = agent_env(g, variable, ""), *own = agent_env(g, "PROV_CERT", "");
    const char *const paths[] = {
        set,
        control_plane ? OLD_ROOT : "",
        own[0] ? mz_arena_printf(a, "%s/root-cert.pem", own).p : "",
        control_plane && is_file_mounted(g) ? meta(g, "TLS_CLIENT_ROOT_CERT", a) : "",
        ROOT,
    };
    struct file_text f = { 0 };
    *out = (struct mz_str){ 0 };
    if (strcmp(set, SYSTEM) == 0)
        return true;
    for (size_t i = 0; i < MZ_COUNT(paths) && !f.there; i++) {
        if (paths[i][0] && !file_read(paths[i], a, &f, err))
            return false;
        if (set[0] && !f.there)
            return mz_err_set(err, "%s: there is no %s", variable, set);
    }
    *out = f.text;
    return true;
}

__attribute__((nonnull)) static const char *host_of(struct agent *g, const char *address)
{
    const ptrdiff_t colon = mz_str_rchr(mz_str_c(address), ':');
    const struct mz_str host = { address, colon > 0 ? (size_t)colon : strlen(address) };
    if (mz_str_eq(host, MZ_STR("localhost")) || mz_str_starts(host, MZ_STR("127.")))
        return "istiod.istio-system.svc"; /* a forwarded port: the certificate is the control plane's all the same */
    return mz_arena_dup(g->arena, host).p;
}

/* ---- who we are, by a certificate instead of a token ---- */

struct own {
    const char *chain, *key; /* files; "" none */
};

static struct own own_files(const struct agent *g, bool control_plane, struct mz_arena *a)
{
    const char *folder = agent_env(g, "PROV_CERT", "");
    if (folder[0])
        return (struct own){ mz_arena_printf(a, "%s/cert-chain.pem", folder).p,
                             mz_arena_printf(a, "%s/key.pem", folder).p };
    if (control_plane && is_file_mounted(g))
        return (struct own){ meta(g, "TLS_CLIENT_CERT_CHAIN", a), meta(g, "TLS_CLIENT_KEY", a) };
    return (struct own){ "", "" };
}

/* What is not there yet is not shown: the token has to do. */
static bool show(struct own o, struct mz_arena *a, struct mz_link_target *t, struct mz_err *err)
{
    struct file_text chain = { 0 }, key = { 0 };
    if (!t->tls || !o.chain[0] || !o.key[0])
        return true;
    if (!file_read(o.chain, a, &chain, err) || !file_read(o.key, a, &key, err))
        return false;
    if (chain.text.n && key.text.n) {
        t->chain = chain.text;
        t->key = key.text;
    }
    return true;
}

static void wipe(struct mz_str s)
{
    if (s.n)
        explicit_bzero((char *)(uintptr_t)s.p, s.n);
}

static bool set_services(struct agent *g, struct mz_err *err)
{
    const char *ca = agent_env(g, "CA_ADDR", g->boot.discovery);
    struct mz_link_target xds = { .address = g->boot.discovery,
                                  .tls = !g->boot.plain,
                                  .server_name =
                                      agent_env(g, "ISTIOD_SAN", host_of(g, g->boot.discovery)) };
    struct mz_link_target authority = { .address = ca,
                                        .tls = !mz_str_ends(mz_str_c(ca), MZ_STR(":15010")),
                                        .server_name = agent_env(g, "ISTIOD_SAN", host_of(g, ca)) };
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG); /* of keys */
    bool ok = root_of(g, "XDS_ROOT_CA", true, a, &xds.root, err) &&
              root_of(g, "CA_ROOT_CA", false, a, &authority.root, err) &&
              show(own_files(g, true, a), a, &xds, err) &&
              show(own_files(g, false, a), a, &authority, err);
    if (ok && !mz_link_set(g->link, "xds", &xds, err))
        ok = mz_err_at(err, "discoveryAddress");
    if (ok && g->authority && !mz_link_set(g->link, "ca", &authority, err))
        ok = mz_err_at(err, "CA_ADDR");
    wipe(xds.key);
    wipe(authority.key);
    mz_arena_destroy(a);
    return ok;
}

static uint64_t own_version(const struct agent *g)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    uint64_t v = 0;
    for (int i = 0; i < 2; i++) {
        const struct own o = own_files(g, i, a);
        v = (v * 31 + file_version(o.chain)) * 31 + file_version(o.key);
    }
    mz_arena_destroy(a);
    return v;
}

bool agent_links(struct agent *g, struct mz_err *err)
{
    const struct mz_link_target admin = {
        .address = mz_arena_printf(g->arena, "%s:%u", g->boot.localhost, g->boot.admin_port).p,
        .http1 = true
    };
    g->own_version = own_version(g);
    return set_services(g, err) && mz_link_set(g->link, "admin", &admin, err);
}

void agent_links_follow(struct agent *g)
{
    struct mz_err err = { 0 };
    const uint64_t now = own_version(g);
    if (now == g->own_version)
        return;
    g->own_version = now;
    if (!set_services(g, &err))
        MZ_LOG(WARN, secret, "what the control plane is shown stays as it was: %s", err.msg);
}
