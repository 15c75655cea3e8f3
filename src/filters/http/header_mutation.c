#include "filters/http/header_mutation.h"

#include "proto/mapper.h"

/* header_mutation: adds, replaces and removes headers, trailers and query parameters, in the order given (H9). */

struct mutations {
    struct mz_header_ops request, response, request_trailers, response_trailers;
    struct query_op *query;
    size_t n_query;
    bool most_specific_wins;
};
struct state {
    struct mz_filter base;
    const struct mutations *levels[5]; /* in the order in which they are applied */
    unsigned n;
};

/* ---- configuration ---- */

static void mutations_destroy(void *cfg)
{
    struct mutations *m = cfg;
    if (!m)
        return;
    struct mz_header_ops *ops[] = { &m->request, &m->response, &m->request_trailers,
                                    &m->response_trailers };
    for (size_t i = 0; i < MZ_COUNT(ops); i++)
        mz_header_ops_fini(ops[i]);
    for (size_t i = 0; i < m->n_query; i++)
        query_op_fini(&m->query[i]);
    mz_free(MZ_MEM_CONFIG, m->query);
    mz_free(MZ_MEM_CONFIG, m);
}

static struct mutations *mutations_build(const pb_Mutations *p, struct mz_err *err)
{
    struct mutations *m = mz_new0(MZ_MEM_CONFIG, struct mutations);
    if (!p)
        return m;
    const struct {
        pb_HeaderMutation **v;
        size_t n;
        struct mz_header_ops *out;
        const char *name;
    } lists[] = {
        { p->request_mutations, p->n_request_mutations, &m->request, "request_mutations" },
        { p->response_mutations, p->n_response_mutations, &m->response, "response_mutations" },
        { p->request_trailers_mutations, p->n_request_trailers_mutations, &m->request_trailers,
          "request_trailers_mutations" },
        { p->response_trailers_mutations, p->n_response_trailers_mutations, &m->response_trailers,
          "response_trailers_mutations" },
    };
    for (size_t i = 0; i < MZ_COUNT(lists); i++)
        if (!mz_header_ops_build(lists[i].v, lists[i].n, lists[i].out, err)) {
            mz_err_at(err, "%s", lists[i].name);
            goto fail;
        }
    m->query = mz_newn0(MZ_MEM_CONFIG, struct query_op, p->n_query_parameter_mutations);
    for (size_t i = 0; i < p->n_query_parameter_mutations; i++)
        if (!query_op_build(p->query_parameter_mutations[i], &m->query[m->n_query++], err)) {
            mz_err_at(err, "query_parameter_mutations[%zu]", i);
            goto fail;
        }
    return m;
fail:
    mutations_destroy(m);
    mz_err_at(err, "mutations");
    return NULL;
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    const pb_http_header_mutation_HeaderMutation *p = msg;
    struct mutations *m = mutations_build(p->mutations, err);
    if (m)
        m->most_specific_wins = p->most_specific_header_mutations_wins;
    return m;
}

static void *route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    const pb_HeaderMutationPerRoute *p = msg;
    return mutations_build(p->mutations, err);
}

/* ---- at work ---- */

/* The filter's own mutations first; of the levels of the route the most specific one first, so that the outermost wins, or the
 * other way round. */
static void gather(struct state *st)
{
    const struct mutations *own = st->base.cfg;
    const void *levels[4];
    unsigned n = mz_filter_route_configs(&st->base, levels);
    st->n = 0;
    st->levels[st->n++] = own;
    for (unsigned i = 0; i < n; i++)
        st->levels[st->n++] = levels[own->most_specific_wins ? i : n - 1 - i];
}

static struct mz_format_ctx context(struct mz_filter *f)
{
    return (struct mz_format_ctx){ .info = mz_stream_info(f->stream),
                                   .req = mz_stream_request_headers(f->stream),
                                   .resp = mz_stream_response_headers(f->stream) };
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    gather(st);
    struct mz_format_ctx c = context(f);
    for (unsigned i = 0; i < st->n; i++) {
        mz_header_ops_apply(&st->levels[i]->request, h, &c);
        const struct mutations *m = st->levels[i];
        if (m->n_query)
            mz_headers_set_id(h, MZ_H_PATH,
                              query_mutate(mz_headers_path(h), m->query, m->n_query, &c,
                                           mz_stream_arena(f->stream)));
    }
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow apply_all(struct mz_filter *f, struct mz_headers *h, size_t which)
{
    struct state *st = (struct state *)(void *)f;
    if (!st->n)
        gather(st); /* an answer without a request's headers: refused before */
    struct mz_format_ctx c = context(f);
    for (unsigned i = 0; i < st->n; i++)
        mz_header_ops_apply(
            (const struct mz_header_ops *)(const void *)((const char *)st->levels[i] + which), h,
            &c);
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    return apply_all(f, h, offsetof(struct mutations, response));
}

static enum mz_flow on_request_trailers(struct mz_filter *f, struct mz_headers *h)
{
    return apply_all(f, h, offsetof(struct mutations, request_trailers));
}

static enum mz_flow on_response_trailers(struct mz_filter *f, struct mz_headers *h)
{
    return apply_all(f, h, offsetof(struct mutations, response_trailers));
}

const struct mz_http_filter_type mz_filter_header_mutation = {
    .name = "envoy.filters.http.header_mutation",
    .config_type = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    .route_config_type = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
    .size = sizeof(struct state),
    .config_build = config_build,
    .config_destroy = mutations_destroy,
    .route_config_build = route_config_build,
    .route_config_destroy = mutations_destroy,
    .on_request_headers = on_request_headers,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
    .on_response_trailers = on_response_trailers,
};
