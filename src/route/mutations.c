#include "base/arena.h"
#include "base/log.h"
#include "proto/names.h"
#include "route/route.h"

static struct mz_str lower_copy(const char *s)
{
    size_t n = strlen(s);
    char *p = mz_strndup(MZ_MEM_CONFIG, s, n);
    for (size_t i = 0; i < n; i++)
        p[i] = mz_lower(p[i]);
    return (struct mz_str){ p, n };
}

static void text_free(struct mz_str s)
{
    mz_free(MZ_MEM_CONFIG, (void *)(uintptr_t)s.p);
}

/* token of RFC 9110, and pseudo-headers where they are allowed */
static bool is_name(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                  (c != 0 && strchr("!#$%&'*+-.^_`|~", c)) || (c == ':' && i == 0);
        if (!ok)
            return false;
    }
    return s.n > 0;
}

static bool is_reserved(struct mz_str name)
{
    return (name.n && name.p[0] == ':') || mz_str_eq(name, MZ_STR("host"));
}

static bool action_build(const pb_HeaderValueOption *m, enum mz_append_action *out,
                         struct mz_err *err)
{
    if ((unsigned)m->append_action > pb_HeaderValueOption_HeaderAppendAction_OVERWRITE_IF_EXISTS)
        return mz_err_set(err, "append_action %d is not a known value", (int)m->append_action);
    *out = (enum mz_append_action)m->append_action; /* the numbers are the same */
    if (!m->append)
        return true;
    if (m->append_action != pb_HeaderValueOption_HeaderAppendAction_APPEND_IF_EXISTS_OR_ADD)
        return mz_err_set(err, "append and append_action are both set; only one is allowed");
    *out = m->append->value ? MZ_APPEND_IF_EXISTS_OR_ADD : MZ_OVERWRITE_IF_EXISTS_OR_ADD;
    return true;
}

static bool value_build(const pb_HeaderValueOption *m, struct mz_header_add *out,
                        struct mz_err *err)
{
    if (!action_build(m, &out->action, err))
        return false;
    out->value = mz_format_create(mz_str_c(m->header->value), true, err);
    return out->value || mz_err_at(err, "header.value");
}

static bool add_build(const pb_HeaderValueOption *m, bool allow_pseudo, struct mz_header_add *out,
                      struct mz_err *err)
{
    if (!m->header)
        return mz_err_set(err, "header is required");
    out->name = lower_copy(m->header->key);
    out->keep_empty = m->keep_empty_value;
    if (!is_name(out->name))
        (void)mz_err_set(err, "'%s' is not a header name", m->header->key);
    else if (!allow_pseudo && is_reserved(out->name))
        (void)mz_err_set(
            err,
            "'%s' may not be modified; names beginning with ':' and host are set by routing only",
            m->header->key);
    else
        return value_build(m, out, err);
    return mz_err_at(err, "header.key");
}

static bool remove_build(const char *text, bool allow_pseudo, struct mz_str *out,
                         struct mz_err *err)
{
    *out = lower_copy(text);
    if (!is_name(*out))
        return mz_err_set(err, "'%s' is not a header name", text);
    return allow_pseudo || !is_reserved(*out) ||
           mz_err_set(
               err,
               "'%s' may not be removed; names beginning with ':' and host are needed by routing",
               text);
}

bool mz_header_mutations_build(pb_HeaderValueOption **add, size_t n_add, char **remove,
                               size_t n_remove, bool allow_pseudo, struct mz_header_mutations *out,
                               struct mz_err *err)
{
    *out = (struct mz_header_mutations){ 0 };
    out->add = n_add ? mz_newn0(MZ_MEM_CONFIG, struct mz_header_add, n_add) : NULL;
    out->remove = n_remove ? mz_newn0(MZ_MEM_CONFIG, struct mz_str, n_remove) : NULL;
    bool ok = true;
    for (size_t i = 0; ok && i < n_add; i++) {
        out->n_add++;
        ok = add_build(add[i], allow_pseudo, &out->add[i], err) || mz_err_at(err, "[%zu]", i);
    }
    for (size_t i = 0; ok && i < n_remove; i++) {
        out->n_remove++;
        ok = remove_build(remove[i], allow_pseudo, &out->remove[i], err) ||
             mz_err_at(err, "[%zu]", i);
    }
    if (!ok)
        mz_header_mutations_fini(out);
    return ok;
}

static void add_fini(struct mz_header_add *a)
{
    text_free(a->name);
    mz_format_destroy(a->value);
}

void mz_header_mutations_fini(struct mz_header_mutations *m)
{
    MZ_ASSERT(m->add || !m->n_add);
    for (uint32_t i = 0; i < m->n_add; i++)
        add_fini(&m->add[i]);
    for (uint32_t i = 0; i < m->n_remove; i++)
        text_free(m->remove[i]);
    mz_free(MZ_MEM_CONFIG, m->add);
    mz_free(MZ_MEM_CONFIG, m->remove);
    *m = (struct mz_header_mutations){ 0 };
}

/* ---- on the request path ---- */

/* Values are foreign where a format takes them from a request: a line end in one would start a header of its own. */
static struct mz_str clean(struct mz_str value)
{
    for (size_t i = 0; i < value.n; i++) {
        char *c = (char *)(uintptr_t)value.p + i;
        if (*c == '\r' || *c == '\n' || *c == 0)
            *c = ' ';
    }
    return value;
}

static struct mz_str evaluate(const struct mz_format *f, const struct mz_format_ctx *c,
                              struct mz_arena *a)
{
    struct mz_str text;
    if (mz_format_is_literal(f, &text))
        return text; /* lives as long as the configuration, which the stream holds */
    struct mz_buf buf;
    mz_buf_init(&buf);
    mz_format_append(f, c, &buf);
    struct mz_str value = clean(mz_arena_dup(a, mz_buf_linearize(&buf, mz_buf_len(&buf))));
    mz_buf_fini(&buf);
    return value;
}

/* The new one goes to the end, as in Envoy; pseudo-headers stay where they are. */
static void overwrite(struct mz_headers *h, struct mz_str name, struct mz_str value)
{
    if (name.p[0] == ':') {
        mz_headers_set(h, name, value);
        return;
    }
    mz_headers_remove(h, name);
    mz_headers_add(h, name, value);
}

static bool overwrites(const struct mz_header_add *x)
{
    return x->action == MZ_OVERWRITE_IF_EXISTS_OR_ADD || x->action == MZ_OVERWRITE_IF_EXISTS;
}

/* Should it be done, given what is there before any of the list was? */
static bool applies(const struct mz_header_add *x, struct mz_str value, const struct mz_headers *h)
{
    if (!value.n && !x->keep_empty)
        return false;
    if (x->action == MZ_ADD_IF_ABSENT)
        return !mz_headers_get(h, x->name);
    return x->action != MZ_OVERWRITE_IF_EXISTS || mz_headers_get(h, x->name);
}

/* Removals, then all values are computed from the headers as they came, then overwriting, then adding: Envoy's order. */
void mz_header_mutations_apply(const struct mz_header_mutations *m, struct mz_headers *h,
                               const struct mz_format_ctx *c)
{
    for (uint32_t i = 0; i < m->n_remove; i++)
        mz_headers_remove(h, m->remove[i]);
    if (!m->n_add)
        return;
    struct mz_str *values = mz_arena_alloc(h->arena, mz_mul(m->n_add, sizeof(*values)));
    bool *todo = mz_arena_alloc(h->arena, m->n_add);
    for (uint32_t i = 0; i < m->n_add; i++) {
        values[i] = evaluate(m->add[i].value, c, h->arena);
        todo[i] = applies(&m->add[i], values[i], h);
    }
    for (uint32_t i = 0; i < m->n_add; i++)
        if (todo[i] && overwrites(&m->add[i]))
            overwrite(h, m->add[i].name, values[i]);
    for (uint32_t i = 0; i < m->n_add; i++)
        if (todo[i] && !overwrites(&m->add[i]))
            mz_headers_add(h, m->add[i].name, values[i]);
}

/* ---- ordered lists ---- */

static bool op_build(const pb_HeaderMutation *m, struct mz_header_op *out, struct mz_err *err)
{
    switch (m->action_case) {
    case pb_HeaderMutation_ACTION_REMOVE:
        out->kind = MZ_HEADER_OP_REMOVE;
        return remove_build(m->remove, false, &out->remove, err) || mz_err_at(err, "remove");
    case pb_HeaderMutation_ACTION_APPEND:
        out->kind = MZ_HEADER_OP_ADD;
        return add_build(m->append, false, &out->add, err) || mz_err_at(err, "append");
    case pb_HeaderMutation_ACTION_REMOVE_ON_MATCH:
        out->kind = MZ_HEADER_OP_REMOVE_ON_MATCH;
        if (!m->remove_on_match->key_matcher)
            return mz_err_set(err, "remove_on_match.key_matcher is required");
        out->match = mz_string_match_build(m->remove_on_match->key_matcher, err);
        return out->match || mz_err_at(err, "remove_on_match.key_matcher");
    default:
        return mz_err_set(err, "one of remove, append, remove_on_match is required");
    }
}

bool mz_header_ops_build(pb_HeaderMutation **v, size_t n, struct mz_header_ops *out,
                         struct mz_err *err)
{
    *out = (struct mz_header_ops){ n ? mz_newn0(MZ_MEM_CONFIG, struct mz_header_op, n) : NULL, 0 };
    for (size_t i = 0; i < n; i++) {
        out->n++;
        if (op_build(v[i], &out->v[i], err))
            continue;
        mz_header_ops_fini(out);
        return mz_err_at(err, "[%zu]", i);
    }
    return true;
}

void mz_header_ops_fini(struct mz_header_ops *o)
{
    for (size_t i = 0; i < o->n; i++) {
        text_free(o->v[i].remove);
        add_fini(&o->v[i].add);
        mz_string_match_destroy(o->v[i].match);
    }
    mz_free(MZ_MEM_CONFIG, o->v);
    *o = (struct mz_header_ops){ 0 };
}

static void remove_matching(const struct mz_string_match *match, struct mz_headers *h)
{
    for (uint32_t i = 0; i < h->n; i++)
        if (!h->v[i].gone && !is_reserved(h->v[i].name) && mz_string_match(match, h->v[i].name))
            mz_headers_remove(h, h->v[i].name);
}

void mz_header_ops_apply(const struct mz_header_ops *o, struct mz_headers *h,
                         const struct mz_format_ctx *c)
{
    for (size_t i = 0; i < o->n; i++) {
        struct mz_header_op *op = &o->v[i];
        if (op->kind == MZ_HEADER_OP_REMOVE)
            mz_headers_remove(h, op->remove);
        else if (op->kind == MZ_HEADER_OP_REMOVE_ON_MATCH)
            remove_matching(op->match, h);
        else
            mz_header_mutations_apply(&(struct mz_header_mutations){ .add = &op->add, .n_add = 1 },
                                      h, c);
    }
}
