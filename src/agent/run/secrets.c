/* The workload's certificate: asked of an authority, or in files; given to the proxy, and to who else reads a folder. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/run/run_priv.h"
#include "agent/tree.h"
#include "base/log.h"

#define SDS_FOLDER "./var/run/secrets/workload-spiffe-uds"
#define CERTS      "./etc/certs"
#define SPIFFE     "./var/run/secrets/workload-spiffe-credentials"

struct files {
    const char *chain, *key, *root; /* chain NULL: none */
};

/* ---- given to others ---- */

static bool write_out(const struct agent *g, struct mz_err *err)
{
    const struct mz_identity_pair *p = mz_identity_get(g->identity);
    /* in a cluster they are for other containers of the pod, too, whoever runs there */
    const unsigned mode = agent_env(g, "KUBERNETES_SERVICE_HOST", "")[0] ? 0644 : 0600;
    const struct {
        const char *name;
        struct mz_str text;
    } all[] = { { "key.pem", p->key },
                { "cert-chain.pem", p->chain },
                { "root-cert.pem", p->root } };
    for (size_t i = 0; i < MZ_COUNT(all); i++) {
        char path[1024];
        (void)snprintf(path, sizeof(path), "%s/%s", g->output, all[i].name);
        if (!agent_folders(path, err) || !file_write(path, all[i].text, mode, err))
            return false;
    }
    return true;
}

static void on_certificate(void *arg)
{
    struct agent *g = arg;
    struct mz_err err;
    if (g->output && !write_out(g, &err))
        MZ_LOG(WARN, secret, "OUTPUT_CERTS: %s", err.msg);
    agent_links_follow(g);
    mz_sds_changed(g->sds);
}

/* ---- where it is from ---- */

static bool are_there(struct files f)
{
    return access(f.chain, R_OK) == 0 && access(f.key, R_OK) == 0;
}

static const char *meta(const struct agent *g, const char *name)
{
    return mz_arena_dup(g->arena, member_text(g->boot.metadata, name)).p;
}

/* Those that are there; else, where certificates are said to be mounted, those that shall be. */
static struct files find_files(const struct agent *g)
{
    const struct files spiffe = { SPIFFE "/certificates.pem", SPIFFE "/private_key.pem",
                                  SPIFFE "/ca_certificates.pem" },
                       usual = { CERTS "/cert-chain.pem", CERTS "/key.pem",
                                 CERTS "/root-cert.pem" },
                       named = { meta(g, "TLS_CLIENT_CERT_CHAIN"), meta(g, "TLS_CLIENT_KEY"),
                                 meta(g, "TLS_CLIENT_ROOT_CERT") };
    bool mounted = false;
    (void)mz_agent_bool(agent_env(g, "FILE_MOUNTED_CERTS", "false"), &mounted);
    if (are_there(spiffe) && access(spiffe.root, R_OK) == 0)
        return spiffe;
    if (mounted)
        return named.chain[0] && named.key[0] && named.root[0] ? named : usual;
    return !g->output && are_there(usual) ? usual : (struct files){ 0 };
}

static double share(const char *text, double otherwise)
{
    char *end;
    const double v = strtod(text, &end);
    return *text && !*end && v >= 0 && v < 1 ? v : otherwise;
}

static bool options(struct agent *g, struct files f, struct mz_identity_opts *out,
                    struct mz_err *err)
{
    uint64_t ttl_ms = 24ull * 3600 * 1000, bits = 0;
    if (!mz_agent_duration(agent_env(g, "SECRET_TTL", "24h"), &ttl_ms) || !ttl_ms)
        return mz_err_set(err, "SECRET_TTL: \"%.60s\" is no duration like 24h",
                          agent_env(g, "SECRET_TTL", ""));
    if (!mz_str_u64(mz_str_c(agent_env(g, "WORKLOAD_RSA_KEY_SIZE", "0")), &bits) ||
        (bits && (bits < 2048 || bits > 4096)))
        return mz_err_set(err, "WORKLOAD_RSA_KEY_SIZE: 2048 to 4096 bits");
    *out = (struct mz_identity_opts){
        .loop = g->loop,
        .link = g->link,
        .spiffe = mz_arena_printf(g->arena, "spiffe://%s/ns/%s/sa/%s",
                                  agent_env(g, "TRUST_DOMAIN", "cluster.local"),
                                  g->boot.namespace_ ? g->boot.namespace_ : "default",
                                  g->boot.account ? g->boot.account : "default")
                      .p,
        .token_path = g->token_path,
        .cluster_id = g->cluster_id,
        .ttl_s = ttl_ms / 1000,
        .grace = share(agent_env(g, "SECRET_GRACE_PERIOD_RATIO", ""), 0.5),
        .rsa_bits = (unsigned)bits,
        .chain = f.chain,
        .key = f.key,
        .root = f.root,
        .changed = on_certificate,
        .arg = g,
    };
    return true;
}

bool agent_secrets(struct agent *g, struct mz_err *err)
{
    const char *path = mz_arena_printf(g->arena, SDS_FOLDER "/%s",
                                       agent_env(g, "WORKLOAD_IDENTITY_SOCKET_FILE", "socket"))
                           .p;
    const char *output = agent_env(g, "OUTPUT_CERTS", "");
    struct mz_identity_opts o;
    g->output = output[0] ? output : NULL;
    const struct files f = find_files(g);
    if (agent_is_served(path, err)) {
        MZ_LOG(INFO, secret, "%s is served by somebody else: used as it is", path);
        return true;
    }
    if (err->msg[0])
        return false;
    if (!g->authority && !f.chain)
        return true; /* a mesh without certificates */
    if (!options(g, f, &o, err))
        return false;
    if (f.chain)
        MZ_LOG(INFO, secret, "the certificate is in files: no authority is asked");
    g->identity = mz_identity_create(&o);
    g->sds = mz_sds_create(g->loop, g->identity, g->output ? NULL : CERTS "/root-cert.pem");
    g->sds_server = agent_serve(g, path, err);
    if (!g->sds_server)
        return false;
    mz_sds_add(g->sds, g->sds_server);
    return true;
}
