#include "filters/http/http_filters.h"
#include "filters/http/ip_tags.h"
#include "proto/mapper.h"
#include "stats/stats.h"

/* ip_tagging: the names of the address ranges that hold the client go into a header, for routes and upstreams (H9). */

enum { NO_HIT, TOTAL };
static const struct mz_stat_def stat_defs[] = {
    [NO_HIT] = { "no_hit", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [TOTAL] = { "total", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
};
static const struct mz_stat_kind stat_kind = { "ip_tagging", stat_defs, MZ_COUNT(stat_defs) };
static const struct mz_stat_def tag_defs[] = { { "hit", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY } };
static const struct mz_stat_kind tag_kind = { "ip_tagging tag", tag_defs, MZ_COUNT(tag_defs) };

struct tag {
    struct mz_str name;
    struct mz_scope *scope; /* http.<prefix>.ip_tagging.<name>. */
};
struct tagging_cfg {
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct ip_tags *ranges;
    struct tag *tags; /* in the order of the document, each name once */
    uint32_t n_tags;
    int type;             /* enum RequestType */
    struct mz_str header; /* "": x-envoy-ip-tags, which clients cannot set */
    bool append;          /* to what the client said in it */
};

/* ---- configuration ---- */

static void config_destroy(void *cfg)
{
    struct tagging_cfg *c = cfg;
    for (uint32_t i = 0; i < c->n_tags; i++)
        mz_scope_unref(c->tags[i].scope);
    ip_tags_destroy(c->ranges);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static uint32_t tag_find(struct tagging_cfg *c, struct mz_str name, struct mz_str prefix,
                         struct mz_stats *stats)
{
    for (uint32_t i = 0; i < c->n_tags; i++)
        if (mz_str_eq(c->tags[i].name, name))
            return i;
    struct mz_str own = mz_arena_cat(c->arena, 3, (struct mz_str[]){ prefix, name, MZ_STR(".") });
    c->tags[c->n_tags] =
        (struct tag){ mz_arena_dup(c->arena, name), mz_scope_create(stats, &tag_kind, own) };
    return c->n_tags++;
}

static bool ranges_build(const pb_IPTagging_IPTag *m, uint32_t tag, struct tagging_cfg *c,
                         struct mz_err *err)
{
    for (size_t i = 0; i < m->n_ip_list; i++) {
        struct mz_cidr range;
        if (!mz_cidr_make(mz_str_c(m->ip_list[i]->address_prefix),
                          mz_u32_or(m->ip_list[i]->prefix_len, 0), &range, err))
            return mz_err_at(err, "ip_list[%zu]", i);
        ip_tags_add(c->ranges, &range, tag);
    }
    return true;
}

static void header_build(const pb_IPTagging_IpTagHeader *m, struct tagging_cfg *c)
{
    if (!m)
        return;
    c->header = mz_arena_dup(c->arena, mz_str_c(m->header));
    for (size_t i = 0; i < c->header.n; i++)
        ((char *)(uintptr_t)c->header.p)[i] = mz_lower(c->header.p[i]);
    c->append = m->action == pb_IPTagging_IpTagHeader_HeaderAction_APPEND_IF_EXISTS_OR_ADD;
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_IPTagging *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct tagging_cfg *c = mz_arena_new0(a, struct tagging_cfg);
    struct mz_str prefix = mz_arena_cat(
        a, 3, (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix, MZ_STR(".ip_tagging.") });
    c->arena = a;
    c->type = (int)m->request_type;
    c->scope = mz_scope_create(f->stats, &stat_kind, prefix);
    c->ranges = ip_tags_create();
    c->tags = mz_arena_alloc0(a, m->n_ip_tags * sizeof(*c->tags));
    header_build(m->ip_tag_header, c);
    for (size_t i = 0; i < m->n_ip_tags; i++) {
        uint32_t tag = tag_find(c, mz_str_c(m->ip_tags[i]->ip_tag_name), prefix, f->stats);
        if (ranges_build(m->ip_tags[i], tag, c, err))
            continue;
        mz_err_at(err, "ip_tags[%zu]", i);
        config_destroy(c);
        return NULL;
    }
    return c;
}

static void *route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)msg, (void)f;
    mz_err_set(err, "envoy.filters.http.ip_tagging has no configuration per route");
    return NULL;
}

/* ---- at work ---- */

static bool applies(const struct tagging_cfg *c, const struct mz_headers *h)
{
    static const struct mz_fraction enabled = { MZ_STR_INIT("ip_tagging.http_filter_enabled"), 100,
                                                100 };
    bool internal = mz_str_eq(mz_headers_value_id(h, MZ_H_X_ENVOY_INTERNAL), MZ_STR("true"));
    if (c->type ==
        (internal ? pb_IPTagging_RequestType_EXTERNAL : pb_IPTagging_RequestType_INTERNAL))
        return false;
    return mz_runtime_empty(mz_runtime_here()) ||
           mz_runtime_fraction(mz_runtime_here(), &enabled, 99); /* a value under 100: off */
}

/* "a,b" of the tags that are hit; counts them. */
static struct mz_str tags_text(const struct tagging_cfg *c, const bool *hit, struct mz_arena *a)
{
    struct mz_str *parts = mz_arena_alloc0(a, 2 * c->n_tags * sizeof(*parts));
    size_t n = 0;
    for (uint32_t i = 0; i < c->n_tags; i++) {
        if (!hit[i])
            continue;
        if (n)
            parts[n++] = MZ_STR(",");
        parts[n++] = c->tags[i].name;
        mz_count(c->tags[i].scope, 0, 1);
    }
    return mz_arena_cat(a, n, parts);
}

static void header_set(const struct tagging_cfg *c, struct mz_headers *h, struct mz_str tags,
                       struct mz_arena *a)
{
    struct mz_str old = { 0 };
    struct mz_str name = c->header.n ? c->header : MZ_STR("x-envoy-ip-tags");
    if ((!c->header.n || c->append) && mz_headers_joined(h, name, &old))
        tags = mz_arena_cat(a, 3, (struct mz_str[]){ old, MZ_STR(","), tags });
    mz_headers_set(h, name, tags);
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    const struct tagging_cfg *c = f->cfg;
    struct mz_arena *a = mz_stream_arena(f->stream);
    if (!applies(c, h))
        return MZ_FLOW_CONTINUE;
    bool *hit = mz_arena_alloc0(a, c->n_tags * sizeof(*hit));
    mz_count(c->scope, TOTAL, 1);
    if (ip_tags_find(c->ranges, &mz_stream_info(f->stream)->remote, hit)) {
        header_set(c, h, tags_text(c, hit, a), a);
        mz_stream_clear_route_cache(f->stream); /* routes may match by the header */
        return MZ_FLOW_CONTINUE;
    }
    mz_count(c->scope, NO_HIT, 1);
    if (c->header.n && !c->append && mz_headers_remove(h, c->header))
        mz_stream_clear_route_cache(f->stream);
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_ip_tagging = {
    .name = "envoy.filters.http.ip_tagging",
    .config_type = "envoy.extensions.filters.http.ip_tagging.v3.IPTagging",
    .size = sizeof(struct mz_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = route_config_build,
    .on_request_headers = on_request_headers,
};
