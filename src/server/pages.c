/* Joins the lists of pages, and what several pages need. */
#include "base/regex.h"
#include "http/query.h"
#include "server/pages_priv.h"
#include "upstream/cluster.h"

static const struct page_list *const lists[] = { &pages_home,   &pages_state,  &pages_config,
                                                 &pages_stats,  &pages_memory, &pages_logging,
                                                 &pages_explain };

struct mz_pages *mz_pages_create(const struct mz_pages_env *env)
{
    struct mz_pages *p = mz_new0(MZ_MEM_ADMIN, struct mz_pages);
    p->env = *env;
    for (size_t i = 0; i < MZ_COUNT(lists); i++)
        p->n += lists[i]->n;
    p->v = mz_newn0(MZ_MEM_ADMIN, struct mz_admin_page, p->n);
    size_t n = 0;
    for (size_t i = 0; i < MZ_COUNT(lists); i++)
        for (size_t k = 0; k < lists[i]->n; k++) {
            p->v[n] = lists[i]->v[k];
            p->v[n++].arg = p;
        }
    return p;
}

void mz_pages_destroy(struct mz_pages *p)
{
    if (!p)
        return;
    mz_free(MZ_MEM_ADMIN, p->v);
    mz_free(MZ_MEM_ADMIN, p);
}

void mz_pages_add(struct mz_pages *p, struct mz_admin *a)
{
    for (size_t i = 0; i < p->n; i++)
        mz_admin_add(a, &p->v[i]);
}

void page_text(struct mz_admin_reply *out, unsigned status, struct mz_str text)
{
    out->status = status;
    out->content_type = PAGE_TEXT;
    mz_buf_append_str(&out->body, text);
}

void page_html(const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    out->content_type = PAGE_HTML;
    if (!out->headers)
        out->headers = mz_headers_create(rq->arena);
    mz_headers_add(out->headers, MZ_STR("content-security-policy"),
                   MZ_STR("default-src 'none'; style-src 'unsafe-inline'; script-src "
                          "'unsafe-inline'; connect-src 'self'; "
                          "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"));
}

void page_message(struct mz_admin_reply *out, const ProtobufCMessage *m, unsigned flags)
{
    out->content_type = PAGE_JSON;
    mz_msg_to_json(m, &out->body, MZ_JSON_PRETTY | MZ_JSON_REDACT | flags);
    mz_buf_append(&out->body, "\n", 1);
}

ProtobufCMessage *page_parse(struct mz_buf *json, const ProtobufCMessageDescriptor *d,
                             struct mz_arena *a)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT, .partial = true };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    struct mz_str text = mz_buf_linearize(json, mz_buf_len(json));
    return mz_msg_from_text(&ctx, text, MZ_TEXT_JSON, d, &m, &err) ? m : NULL;
}

bool page_has(const struct mz_admin_request *rq, const char *name)
{
    struct mz_str value;
    return mz_admin_param(rq, name, &value);
}

bool page_word(const struct mz_admin_request *rq, const char *name, const char *word)
{
    struct mz_str value;
    return mz_admin_param(rq, name, &value) && mz_str_eq(value, mz_str_c(word));
}

/* Envoy's texts have RE2's reason only: what stands behind "invalid regex '<pattern>': ". */
static struct mz_str regex_reason(const char *msg, struct mz_str pattern)
{
    struct mz_str whole = mz_str_c(msg), intro = MZ_STR("invalid regex '");
    size_t shown = pattern.n > 200 ? 200 : pattern.n, skip = intro.n + shown + strlen("': ");
    return mz_str_starts(whole, intro) && whole.n > skip ? mz_str_skip(whole, skip) : whole;
}

bool page_regex(const struct mz_admin_request *rq, const char *name, struct mz_regex **out_regex,
                struct mz_str *out_err)
{
    struct mz_str pattern;
    struct mz_err err;
    *out_regex = NULL;
    if (!mz_admin_param(rq, name, &pattern) || !pattern.n)
        return true;
    *out_regex = mz_regex_create(pattern, &err);
    if (!*out_regex)
        *out_err = mz_arena_dup(rq->arena, regex_reason(err.msg, pattern));
    return *out_regex;
}

pb_Clusters *page_clusters(struct mz_pages *p, struct mz_arena *a)
{
    struct mz_buf json;
    mz_buf_init(&json);
    mz_cluster_manager_json(p->env.clusters, &json);
    ProtobufCMessage *m = page_parse(&json, &pb_Clusters__descriptor, a);
    mz_buf_fini(&json);
    return (pb_Clusters *)m;
}
