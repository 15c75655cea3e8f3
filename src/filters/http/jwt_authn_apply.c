/* What a verified token becomes: headers for the upstream, dynamic metadata for the filters behind. */
#include "filters/http/jwt_authn.h"

#include "base/base64.h"
#include "http/validate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- a document as metadata; copies, the token may go first. Recursion: MZ_TREE_MAX_DEPTH ---- */

static void value_fill(const struct mz_node *n, struct mz_value *out, struct mz_arena *a);

static int field_cmp(const void *x, const void *y)
{
    return mz_str_cmp(((const struct mz_field *)x)->key, ((const struct mz_field *)y)->key);
}

static void map_fill(const struct mz_node *n, struct mz_value *out, struct mz_arena *a)
{
    struct mz_field *v = mz_arena_alloc0(a, (n->n + 1) * sizeof(*v));
    struct mz_value *values = mz_arena_alloc0(a, (n->n + 1) * sizeof(*values));
    for (uint32_t i = 0; i < n->n; i++) {
        value_fill(n->pairs[i].value, &values[i], a);
        v[i] = (struct mz_field){ mz_arena_dup(a, n->pairs[i].key), &values[i] };
    }
    if (n->n)
        qsort(v, n->n, sizeof(*v), field_cmp);
    out->kind = MZ_VALUE_STRUCT;
    out->fields.v = v;
    out->fields.n = out->fields.cap = n->n;
}

static void list_fill(const struct mz_node *n, struct mz_value *out, struct mz_arena *a)
{
    struct mz_value *v = mz_arena_alloc0(a, (n->n + 1) * sizeof(*v));
    for (uint32_t i = 0; i < n->n; i++)
        value_fill(n->list[i], &v[i], a);
    out->kind = MZ_VALUE_LIST;
    out->list.v = v;
    out->list.n = n->n;
}

static void value_fill(const struct mz_node *n, struct mz_value *out, struct mz_arena *a)
{
    switch (n->kind) {
    case MZ_NODE_NULL:
        out->kind = MZ_VALUE_NULL;
        return;
    case MZ_NODE_BOOL:
        out->kind = MZ_VALUE_BOOL;
        out->b = n->b;
        return;
    case MZ_NODE_NUM:
        out->kind = MZ_VALUE_NUMBER;
        out->number = strtod(n->text.p, NULL);
        return;
    case MZ_NODE_STR:
        out->kind = MZ_VALUE_STRING;
        out->str = mz_arena_dup(a, n->text);
        return;
    case MZ_NODE_LIST:
        list_fill(n, out, a);
        return;
    case MZ_NODE_MAP:
        map_fill(n, out, a);
        return;
    }
}

static void metadata_set(struct jwt_check *c, struct mz_str key, const struct mz_value *v)
{
    struct mz_stream_info *info = mz_stream_info(c->filter->stream);
    if (!info->dynamic_metadata)
        info->dynamic_metadata = mz_meta_create(info->arena);
    mz_meta_set(info->dynamic_metadata, MZ_STR(JWT_NAMESPACE), key, v);
}

/* "a b  c" -> ["a", "b", "c"] */
static void split_words(struct mz_value *v, struct mz_arena *a)
{
    struct mz_str rest = v->str, word;
    struct mz_value *words = mz_arena_alloc0(a, (rest.n / 2 + 1) * sizeof(*words));
    size_t n = 0;
    while (mz_str_split(&rest, ' ', &word))
        if (word.n)
            words[n++] = (struct mz_value){ .kind = MZ_VALUE_STRING, .str = word };
    if (!n)
        return;
    v->kind = MZ_VALUE_LIST;
    v->list.v = words;
    v->list.n = n;
}

static struct mz_value *document(const struct mz_node *n, struct mz_arena *a)
{
    struct mz_value *v = mz_arena_new0(a, struct mz_value);
    value_fill(n, v, a);
    return v;
}

static void payload_metadata(struct jwt_check *c, const struct jwt_provider *p,
                             const struct mz_jwt *j)
{
    struct mz_arena *a = mz_stream_arena(c->filter->stream);
    struct mz_value *v = document(j->payload, a);
    for (size_t i = 0; i < p->space_delimited.n; i++)
        for (size_t k = 0; k < v->fields.n; k++) {
            struct mz_value *own =
                (struct mz_value *)(uintptr_t)v->fields.v[k].value; /* made above */
            if (own->kind == MZ_VALUE_STRING &&
                mz_str_eq(v->fields.v[k].key, p->space_delimited.v[i]))
                split_words(own, a);
        }
    metadata_set(c, p->payload_key, v);
}

void jwt_apply_failure(struct jwt_check *c, const struct jwt_provider *p, enum mz_jwt_status s)
{
    if (!p->failed_key.n)
        return;
    struct mz_arena *a = mz_stream_arena(c->filter->stream);
    struct mz_value *v = mz_arena_alloc0(a, 3 * sizeof(*v));
    struct mz_field *f = mz_arena_alloc0(a, 2 * sizeof(*f));
    v[0].kind = MZ_VALUE_NUMBER;
    v[0].number = (double)s;
    v[1].kind = MZ_VALUE_STRING;
    v[1].str = mz_str_c(mz_jwt_status_text(s));
    f[0] = (struct mz_field){ MZ_STR("code"), &v[0] };
    f[1] = (struct mz_field){ MZ_STR("message"), &v[1] };
    v[2].kind = MZ_VALUE_STRUCT;
    v[2].fields.v = f;
    v[2].fields.n = v[2].fields.cap = 2;
    metadata_set(c, p->failed_key, &v[2]);
}

/* ---- headers ---- */

/* Whole numbers that fit 64 bits as such, others with six decimals, as Envoy writes them. */
static struct mz_str number_text(const char *text, struct mz_arena *a)
{
    double d = strtod(text, NULL), whole;
    if (d < 0 || d >= 18446744073709551615.0 || modf(d, &whole) != 0)
        return mz_arena_printf(a, "%f", d);
    return mz_arena_printf(a, "%llu", (unsigned long long)d);
}

static struct mz_str json_text(const struct mz_node *n, struct mz_arena *a)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_value_json(document(n, a), &b);
    size_t len = mz_buf_len(&b);
    char *flat = mz_arena_alloc(a, len + 1);
    (void)mz_buf_copyout(&b, 0, flat, len);
    mz_buf_fini(&b);
    return (struct mz_str){ flat, len };
}

/* "" for what becomes no header: absent, null, an empty text. */
static struct mz_str claim_text(const struct mz_node *n, struct mz_arena *a)
{
    switch (n ? n->kind : MZ_NODE_NULL) {
    case MZ_NODE_STR:
        return mz_arena_dup(a, n->text);
    case MZ_NODE_NUM:
        return number_text(n->text.p, a);
    case MZ_NODE_BOOL:
        return n->b ? MZ_STR("true") : MZ_STR("false");
    case MZ_NODE_LIST:
    case MZ_NODE_MAP:
        return mz_base64_encode(json_text(n, a), a);
    case MZ_NODE_NULL:
        break;
    }
    return (struct mz_str){ 0 };
}

/* A claim is the issuer's word, but often the user's text: a line end in it must not begin another header (C16). */
static bool claim_header(struct jwt_check *c, const struct jwt_claim_header *m,
                         const struct mz_jwt *j, struct mz_headers *h)
{
    struct mz_arena *a = mz_stream_arena(c->filter->stream);
    struct mz_str value = claim_text(mz_jwt_claim(j->payload, m->claim), a);
    if (!value.n)
        return false;
    if (!mz_header_value_valid(value)) {
        mz_stream_story(c->filter->stream, MZ_STEP_NOT_RULE, c->filter->name,
                        mz_arena_cat(a, 3,
                                     (struct mz_str[]){ MZ_STR("claim "), m->claim,
                                                        MZ_STR(" is no header value") }),
                        0, 0);
        return false;
    }
    mz_headers_add(h, m->header, value);
    return true;
}

static void payload_header(const struct jwt_provider *p, const struct mz_jwt *j,
                           struct mz_headers *h, struct mz_arena *a)
{
    struct mz_str text = j->payload_text;
    while (text.n && text.p[text.n - 1] == '=')
        text.n--;
    struct mz_str pad = { "==", p->pad ? (4 - text.n % 4) % 4 : 0 };
    mz_headers_add(h, p->payload_header, mz_arena_cat(a, 2, (struct mz_str[]){ text, pad }));
}

void jwt_apply(struct jwt_check *c, const struct jwt_provider *p, const struct mz_jwt *j,
               const struct jwt_location *at)
{
    struct mz_headers *h = mz_stream_request_headers(c->filter->stream);
    struct mz_arena *a = mz_stream_arena(c->filter->stream);
    bool added = false;
    if (p->payload_header.n)
        payload_header(p, j, h, a);
    for (size_t i = 0; i < p->n_claims; i++)
        added |= claim_header(c, &p->claims[i], j, h);
    if (p->clear_route_cache && (added || p->payload_key.n))
        c->clear_route = true;
    if (!p->forward)
        jwt_remove(at, h, a);
    if (p->header_key.n)
        metadata_set(c, p->header_key, document(j->header, a));
    if (p->payload_key.n)
        payload_metadata(c, p, j);
}
