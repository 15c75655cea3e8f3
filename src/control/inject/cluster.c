#include "control/inject/cluster.h"

#include <stdio.h>

#include "base/log.h"

enum {
    FIRST_MINOR = 33
}; /* of Kubernetes 1, with which init containers that go on became stable */

struct mz_inject_cluster {
    struct mz_store *store;
    const struct mz_inject_templates *templates; /* NULL: only ours */
    uint64_t version;                            /* of the document; 0: there was none */
};

struct mz_inject_cluster *mz_inject_cluster_create(struct mz_store *s)
{
    struct mz_inject_cluster *c = mz_new0(MZ_MEM_CONFIG, struct mz_inject_cluster);
    c->store = s;
    return c;
}

static void replace(struct mz_inject_cluster *c, struct mz_inject_templates *t)
{
    mz_inject_templates_destroy((struct mz_inject_templates *)(uintptr_t)c->templates);
    c->templates = t;
}

void mz_inject_cluster_destroy(struct mz_inject_cluster *c)
{
    if (!c)
        return;
    replace(c, NULL);
    mz_free(MZ_MEM_CONFIG, c);
}

static struct mz_str value_of(const k8s_ConfigMap *m, const char *key)
{
    for (size_t i = 0; i < m->n_data; i++)
        if (strcmp(m->data[i]->key, key) == 0)
            return mz_str_c(m->data[i]->value);
    return MZ_STR("");
}

static void read_map(struct mz_inject_cluster *c, const struct mz_doc *d)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const k8s_ConfigMap *m = (const k8s_ConfigMap *)mz_doc_body(d, a);
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    struct mz_inject_templates *t =
        mz_inject_templates_read(value_of(m, "config"), value_of(m, "values"), &err);
    if (t)
        replace(c, t);
    else
        MZ_LOG(ERROR, config, "%.*s:%u: %.*s: %s", MZ_STR_ARG(d->file), d->line, MZ_STR_ARG(d->key),
               mz_err_text(&err, text, sizeof(text)));
    mz_arena_destroy(a);
}

void mz_inject_cluster_look(struct mz_inject_cluster *c, struct mz_str root_ns)
{
    char key[400];
    (void)snprintf(key, sizeof(key), "ConfigMap/%.*s/istio-sidecar-injector", MZ_STR_ARG(root_ns));
    const struct mz_doc *d = mz_store_get(c->store, mz_str_c(key));
    if ((d ? d->version : 0) == c->version)
        return;
    c->version = d ? d->version : 0;
    if (d)
        read_map(c, d);
    else
        replace(c, NULL);
}

const struct mz_inject_templates *const *
mz_inject_cluster_templates(const struct mz_inject_cluster *c)
{
    return &c->templates;
}

/* ---- nodes ---- */

/* "v1.33.2-gke.1" */
static bool is_new(const k8s_Node *n)
{
    struct mz_str rest =
        mz_str_c(n->status && n->status->nodeinfo ? n->status->nodeinfo->kubeletversion : "");
    struct mz_str major, minor;
    uint64_t a, b;
    if (mz_str_starts(rest, MZ_STR("v")))
        rest = mz_str_skip(rest, 1);
    return mz_str_split(&rest, '.', &major) && mz_str_split(&rest, '.', &minor) &&
           mz_str_u64(major, &a) && mz_str_u64(minor, &b) && (a > 1 || b >= FIRST_MINOR);
}

bool mz_inject_cluster_native(const struct mz_inject_cluster *c, const char *node)
{
    size_t n;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const struct mz_doc *const *v = mz_store_list(c->store, MZ_KIND_NODE, &n);
    const struct mz_doc *own =
        node[0] ? mz_store_get(c->store, mz_arena_printf(a, "Node/%s", node)) : NULL;
    bool yes = n != 0;
    if (own)
        yes = is_new((const k8s_Node *)mz_doc_body(own, a));
    for (size_t i = 0; !own && yes && i < n; i++)
        yes = is_new((const k8s_Node *)mz_doc_body(v[i], a));
    mz_arena_destroy(a);
    return yes;
}
