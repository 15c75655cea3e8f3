/* What pods verify each other by, as a ConfigMap in each namespace: injected pods mount them (C8). */
#include <stdlib.h>

#include "control/status/status_priv.h"

static const char *from_env(const char *name, const char *otherwise)
{
    const char *v = getenv(name); /* nobody changes it */
    return v && *v ? v : otherwise;
}

static void map(struct status_making *m, struct mz_str ns, const char *name, const char *key,
                struct mz_str text)
{
    mz_buf_init(&m->b);
    m->j = (struct json_out){ .b = &m->b };
    json_open(&m->j, '{');
    json_member(&m->j, "apiVersion", MZ_STR("v1"));
    json_member(&m->j, "kind", MZ_STR("ConfigMap"));
    json_key(&m->j, "metadata");
    json_open(&m->j, '{');
    json_key(&m->j, "labels");
    json_open(&m->j, '{');
    json_member(&m->j, "istio.io/config", MZ_STR("true"));
    json_close(&m->j, '}');
    json_member(&m->j, "name", mz_str_c(name));
    json_member(&m->j, "namespace", ns);
    json_close(&m->j, '}');
    json_key(&m->j, "data");
    json_open(&m->j, '{');
    json_key(&m->j, key);
    json_str(&m->j, text); /* an empty one, too */
    json_close(&m->j, '}');
    json_close(&m->j, '}');
    status_put(m, "ConfigMap", ns, mz_str_c(name));
}

static bool is_ignored(struct mz_str ns)
{
    static const char *const names[] = { "kube-public", "kube-node-lease", "local-path-storage" };
    for (size_t i = 0; i < MZ_COUNT(names); i++)
        if (mz_str_eq(ns, mz_str_c(names[i])))
            return true;
    return false;
}

void status_bundles(struct status_making *m)
{
    const struct mz_status_from *f = m->f;
    const char *crl = from_env("PILOT_CRL_CONFIGMAP", "istio-ca-crl");
    const bool revokes =
        !mz_str_ieq(mz_str_c(from_env("PILOT_ENABLE_CA_CRL", "true")), MZ_STR("false"));
    size_t n = 0;
    const struct mz_doc *const *docs =
        f->roots.n ? mz_store_list(f->store, MZ_KIND_NAMESPACE, &n) : NULL;
    for (size_t i = 0; i < n; i++) {
        if (is_ignored(docs[i]->name))
            continue;
        map(m, docs[i]->name, "istio-ca-root-cert", "root-cert.pem", f->roots);
        if (revokes) /* empty where there is none */
            map(m, docs[i]->name, crl, "ca-crl.pem", f->crl);
    }
}
