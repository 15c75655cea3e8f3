#include "base/test.h"

#include "observe/decision.h"
#include "proto/mapper.h"
#include "route/route_test.h"
#include <string.h>

struct mz_http_filter_type { /* a type of ours: this folder never looks inside */
    const char *message;
};
static const char *message(const struct mz_http_filter_type *t)
{
    return t->message;
}
static void *build(const struct mz_http_filter_type *t, const void *msg, const struct mz_factory *f,
                   struct mz_err *err)
{
    (void)t, (void)msg, (void)f, (void)err;
    return mz_alloc0(MZ_MEM_CONFIG, 1);
}
static void destroy(const struct mz_http_filter_type *t, void *cfg)
{
    (void)t;
    mz_free(MZ_MEM_CONFIG, cfg);
}
static const struct mz_route_filter_ops ops = { message, build, destroy };
static const struct mz_http_filter_type health_check = {
    "envoy.extensions.filters.http.health_check.v3.HealthCheck"
};
static const struct mz_http_filter_type *http_filter(struct mz_str type)
{
    return mz_str_eq(type, mz_str_c(health_check.message)) ? &health_check : NULL;
}

static void runtime_init(struct fixture *f)
{
    struct mz_proto_ctx ctx = { .arena = f->a };
    ProtobufCMessage *m;
    assert_true(mz_msg_from_text(&ctx, MZ_STR("layers: [{name: l, static_layer: {w.one: 0}}]"),
                                 MZ_TEXT_YAML, &pb_LayeredRuntime__descriptor, &m, &f->err));
    f->runtime = mz_runtime_store_create(f->stats, (pb_LayeredRuntime *)m, MZ_STR("svc"), &f->err);
    assert_non_null(f->runtime);
    mz_runtime_store_add_thread(f->runtime, f->loop);
    mz_loop_turn(f->loop, 0);
}

void fixture_init(struct fixture *f)
{
    *f = (struct fixture){ .a = mz_arena_create(MZ_MEM_STREAM),
                           .stats = mz_stats_create(1),
                           .loop = mz_loop_create("test") };
    runtime_init(f);
}

void fixture_fini(struct fixture *f)
{
    mz_route_table_unref(f->t);
    mz_runtime_store_destroy(f->runtime);
    mz_loop_turn(f->loop, 0);
    mz_loop_destroy(f->loop);
    mz_stats_destroy(f->stats);
    mz_arena_destroy(f->a);
}

bool fixture_build(struct fixture *f, const char *yaml)
{
    static char any_service; /* doubles look at none of it */
    struct mz_arena *messages =
        mz_arena_create(MZ_MEM_CONFIG); /* gone before the table is used: nothing may point to it */
    struct mz_proto_ctx ctx = { .arena = messages };
    struct mz_factory factory = { .proto = &ctx,
                                  .http_filter = http_filter,
                                  .stats = f->stats,
                                  .clusters = (void *)&any_service };
    struct mz_route_env env = { .factory = &factory,
                                .filter_ops = &ops,
                                .validate_clusters = true };
    ProtobufCMessage *m;
    mz_route_table_unref(f->t);
    f->t = NULL;
    if (mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_RouteConfiguration__descriptor, &m,
                         &f->err))
        f->t = mz_route_table_build((pb_RouteConfiguration *)m, &env, &f->err);
    mz_arena_destroy(messages);
    return f->t != NULL;
}

bool fixture_routes(struct fixture *f, const char *yaml)
{
    const char *head = "name: local\nvirtual_hosts:\n- name: all\n  domains: ['*']\n  routes:\n";
    struct mz_str all = mz_arena_cat(f->a, 2, (struct mz_str[]){ mz_str_c(head), mz_str_c(yaml) });
    return fixture_build(f, all.p);
}

static void extra_add(struct fixture *f, struct mz_str line)
{
    ptrdiff_t colon =
        mz_str_chr(mz_str_skip(line, 1), ':') + 1; /* a pseudo-header begins with one */
    mz_headers_add(f->h, (struct mz_str){ line.p, (size_t)colon },
                   mz_str_trim(mz_str_skip(line, (size_t)colon + 1)));
}

const struct mz_route *fixture_get(struct fixture *f, const char *host, const char *path,
                                   const char *extra)
{
    f->h = mz_headers_create(f->a);
    if (!extra || !strstr(extra, ":method"))
        mz_headers_add_id(f->h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(f->h, MZ_H_SCHEME, MZ_STR("http"));
    mz_headers_add_id(f->h, MZ_H_AUTHORITY, mz_arena_dup(f->a, mz_str_c(host)));
    if (path)
        mz_headers_add_id(f->h, MZ_H_PATH, mz_arena_dup(f->a, mz_str_c(path)));
    struct mz_str rest = mz_str_c(extra);
    for (struct mz_str line; mz_str_split(&rest, '\n', &line);)
        if (line.n)
            extra_add(f, line);
    f->q.h = f->h;
    f->q.arena = f->a;
    f->q.decision = f->decision;
    return mz_route_table_match(f->t, &f->q);
}

const char *fixture_header(const struct fixture *f, const char *name)
{
    struct mz_str out = { 0 };
    for (const struct mz_header *e = mz_headers_get(f->h, mz_str_c(name)); e;
         e = mz_headers_next(f->h, e))
        out = out.p ? mz_arena_cat(f->a, 3, (struct mz_str[]){ out, MZ_STR("|"), e->value })
                    : mz_arena_dup(f->a, e->value);
    return out.p;
}
