/* What explains answers: where documents stand, which of them decided. For mizzenctl; in no shape of istiod's. */
#include "control/debug/pages_priv.h"
#include "control/model/model.h"
#include "control/model/peer_auth.h"

static void place(struct json_out *j, const struct mz_doc *d)
{
    json_open(j, '{');
    json_member(j, "kind", mz_str_c(mz_kind_info(d->kind)->name));
    json_member(j, "group", mz_str_c(mz_kind_info(d->kind)->group));
    json_member(j, "namespace", d->ns);
    json_member(j, "name", d->name);
    json_member(j, "file", d->file);
    if (d->line) {
        json_key(j, "line");
        json_u64(j, d->line);
    }
    json_close(j, '}');
}

PAGE(page_objects)
{
    struct mz_debug *d = arg;
    struct json_out j = json_begin(out);
    struct mz_str kind = MZ_STR(""), ns = MZ_STR("");
    (void)mz_admin_param(rq, "kind", &kind); /* else all */
    (void)mz_admin_param(rq, "namespace", &ns);
    json_open(&j, '[');
    for (unsigned k = 0; k < MZ_KIND__COUNT; k++) {
        size_t n = 0;
        const struct mz_doc *const *v =
            !kind.n || mz_str_eq(kind, mz_str_c(mz_kind_info((enum mz_kind)k)->name))
                ? mz_store_list(d->e.store, (enum mz_kind)k, &n)
                : NULL;
        for (size_t i = 0; i < n; i++)
            if (!ns.n || mz_str_eq(ns, v[i]->ns))
                place(&j, v[i]);
    }
    json_close(&j, ']');
}

struct wanted {
    struct mz_str id; /* "reviews-v1.default" */
    const struct mz_proxy *found;
};

static void look(void *arg, const struct mz_discovery_client *c)
{
    struct wanted *w = arg;
    const struct mz_proxy *p = mz_peer_proxy(c->peer);
    if (mz_str_eq(p->id, w->id))
        w->found = p;
}

PAGE(page_mtls)
{
    static const char *const modes[] = { [MZ_MTLS_DISABLE] = "DISABLE",
                                         [MZ_MTLS_PERMISSIVE] = "PERMISSIVE",
                                         [MZ_MTLS_STRICT] = "STRICT" };
    struct mz_debug *d = arg;
    const struct mz_model *m = mz_discovery_model(d->e.discovery);
    struct json_out j = json_begin(out);
    struct wanted w = { .id = proxy_wanted(rq) };
    struct mz_str port = MZ_STR(""), key;
    uint64_t number = 0;
    (void)mz_admin_param(rq, "port", &port);
    json_open(&j, '{');
    if (m && (!port.n || (mz_str_u64(port, &number) && number <= UINT16_MAX)))
        mz_discovery_each(d->e.discovery, look, &w);
    if (w.found) {
        const struct mz_proxy *p = w.found;
        const enum mz_mtls mode = mz_model_mtls_by(m, p->ns, p->labels, (uint16_t)number, &key);
        const struct mz_doc *doc = key.n ? mz_store_get(d->e.store, key) : NULL;
        json_member(&j, "mode", mz_str_c(modes[mode]));
        if (doc) {
            json_key(&j, "object");
            place(&j, doc);
        }
    }
    json_close(&j, '}');
}

struct unsettled {
    struct json_out j;
    size_t n;
};

static void look_settled(void *arg, const struct mz_discovery_client *c)
{
    struct unsettled *u = arg;
    if (mz_peer_settled(c->peer))
        return;
    u->n++;
    json_str(&u->j, mz_peer_proxy(c->peer)->id);
}

PAGE(page_settled)
{
    struct mz_debug *d = arg;
    (void)rq;
    d->e.source->ops->refresh(d->e.source);
    struct unsettled u = { .j = json_begin(out) };
    json_open(&u.j, '{');
    json_key(&u.j, "waiting");
    json_open(&u.j, '[');
    mz_discovery_each(d->e.discovery, look_settled, &u);
    json_close(&u.j, ']');
    json_close(&u.j, '}');
    if (u.n)
        out->status = 503;
}
