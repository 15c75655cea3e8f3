#include "router/async.h"
#include "router/router_priv.h"

/*
 * Mirrors (H8): a copy of the whole request to another cluster, its answer thrown away. A mirror outlives its stream: it is a
 * stream of the proxy's own (async.h), whose end nobody waits for.
 */
static const struct mz_async_ops nobody_waits = { .headers = NULL };

/* "host-shadow" marks the copy, the port stays (unless disable_shadow_host_suffix_append). */
static void shadow_host(struct mz_headers *h, const struct mz_mirror_policy *p)
{
    struct mz_str host = mz_headers_value_id(h, MZ_H_AUTHORITY);
    if (p->host_rewrite.n) {
        mz_headers_set_id(h, MZ_H_AUTHORITY, p->host_rewrite);
        return;
    }
    if (p->disable_host_suffix || !host.n)
        return;
    ptrdiff_t colon = mz_str_rchr(host, ':');
    ptrdiff_t bracket = mz_str_rchr(host, ']');
    size_t cut = colon > bracket ? (size_t)colon : host.n;
    struct mz_str parts[] = { { host.p, cut }, MZ_STR("-shadow"), mz_str_skip(host, cut) };
    mz_headers_set_id(h, MZ_H_AUTHORITY, mz_arena_cat(h->arena, 3, parts));
}

static void send_one(struct router *r, const struct mz_mirror_policy *p)
{
    struct mz_stream *s = stream_of(r);
    struct mz_upstream *u = mz_stream_worker(s)->upstream;
    struct mz_str name = p->cluster.n ? p->cluster : MZ_STR("");
    struct mz_header *by_header =
        p->cluster_header.n ? mz_headers_get(r->headers, p->cluster_header) : NULL;
    if (!name.n && by_header)
        name = by_header->value;
    struct mz_wcluster *w = name.n ? mz_upstream_find(u, name) : NULL;
    if (!w)
        return;
    mz_stream_story(s, MZ_STEP_MIRROR, mz_wcluster_info(w)->name, MZ_STR(""), 0, 0);
    struct mz_headers *h = mz_headers_clone(r->headers, mz_stream_arena(s));
    shadow_host(h, p);
    struct mz_format_ctx ctx = { .info = info_of(r), .req = h };
    mz_header_ops_apply(&p->mutations, h, &ctx);
    const struct mz_async_opts o = { .timeout_ms = r->times.global_ms,
                                     .no_timeout_header = r->cfg->suppress_headers,
                                     .has_protocol = true,
                                     .protocol = info_of(r)->protocol,
                                     .has_hash = r->has_hash,
                                     .hash = r->hash };
    bool body = mz_buf_len(&r->body) > 0;
    struct mz_async *a = mz_async_start(u, name, h, !body && !r->trailers, &o, &nobody_waits, NULL);
    if (body) {
        struct mz_buf copy;
        mz_buf_init(&copy);
        mz_buf_copy(&copy, &r->body);
        mz_async_send(a, &copy, !r->trailers);
        mz_buf_fini(&copy);
    }
    if (r->trailers)
        mz_async_send_trailers(a, r->trailers);
}

void mirrors_send(struct router *r)
{
    for (uint32_t i = 0; i < r->route->n_mirrors && i < 32; i++)
        if (r->mirrors_mask & (1u << i))
            send_one(r, &r->route->mirrors[i]);
}
