#include "hcm/scope_key.h"

#include "http/header_map.h"
#include "proto/mapper.h"

static struct mz_str lower(struct mz_arena *a, const char *text)
{
    struct mz_str s = mz_arena_dup(a, mz_str_c(text));
    char *p = (char *)(uintptr_t)s.p;
    for (size_t i = 0; i < s.n; i++)
        p[i] = mz_lower(p[i]);
    return s;
}

static bool
fragment_build(const pb_ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor *m,
               struct mz_arena *a, struct scope_fragment *out, struct mz_err *err)
{
    out->header = lower(a, m->name);
    if (mz_str_eq(out->header, MZ_STR("host")))
        out->header = MZ_STR(":authority"); /* one header, whichever name it has (Envoy) */
    out->separator = mz_arena_dup(a, mz_str_c(m->element_separator));
    switch (m->extract_type_case) {
    case pb_ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_EXTRACT_TYPE_INDEX:
        out->index = m->index;
        return !out->index || out->separator.n ||
               mz_err_set(err, "Index > 0 for empty string element separator.") ||
               mz_err_at(err, "index");
    case pb_ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_EXTRACT_TYPE_ELEMENT:
        out->key = mz_arena_dup(a, mz_str_c(m->element->key));
        out->key_separator = mz_arena_dup(a, mz_str_c(m->element->separator));
        return true;
    default:
        return mz_err_set(err, "HeaderValueExtractor extract_type not set.");
    }
}

bool scope_keys_build(const pb_ScopedRoutes_ScopeKeyBuilder *m, struct mz_arena *a,
                      struct scope_keys *out, struct mz_err *err)
{
    out->v = mz_arena_alloc0(a, mz_mul(m->n_fragments, sizeof(*out->v)));
    for (size_t i = 0; i < m->n_fragments; i++)
        if (!fragment_build(m->fragments[i]->header_value_extractor, a, &out->v[out->n++], err))
            return mz_err_at(err, "fragments[%zu].header_value_extractor", i);
    return true;
}

struct mz_str scope_key_join(const struct mz_str *fragments, size_t n, struct mz_arena *a)
{
    struct mz_str *parts = mz_arena_alloc(a, 2 * n * sizeof(*parts));
    for (size_t i = 0; i < n; i++) { /* lengths part them: any byte may be in one */
        parts[2 * i] = mz_arena_printf(a, "%zu:", fragments[i].n);
        parts[2 * i + 1] = fragments[i];
    }
    return mz_arena_cat(a, 2 * n, parts);
}

/* Cuts what is before @sep off the front of @rest; all of it where @sep is "" or not there. */
static struct mz_str cut(struct mz_str *rest, struct mz_str sep, bool *out_last)
{
    const char *at = sep.n ? memmem(rest->p, rest->n, sep.p, sep.n) : NULL;
    struct mz_str part = { rest->p, at ? (size_t)(at - rest->p) : rest->n };
    *out_last = !at;
    *rest = mz_str_skip(*rest, part.n + (at ? sep.n : 0));
    return part;
}

static bool fragment_of(const struct scope_fragment *f, const struct mz_headers *h,
                        struct mz_str *out)
{
    const struct mz_header *e = mz_headers_get(h, f->header);
    if (!e)
        return false;
    struct mz_str rest = e->value;
    bool last = false, whole;
    for (uint32_t i = 0; !last; i++) {
        struct mz_str part = cut(&rest, f->separator, &last);
        if (!f->key.n && i == f->index) {
            *out = part;
            return true;
        }
        if (f->key.n && mz_str_eq(cut(&part, f->key_separator, &whole), f->key)) {
            *out = part;
            return true;
        }
    }
    return false;
}

bool scope_key_of(const struct scope_keys *k, const struct mz_headers *h, struct mz_arena *a,
                  struct mz_str *out_key)
{
    struct mz_str *v = mz_arena_alloc(a, k->n * sizeof(*v));
    for (size_t i = 0; i < k->n; i++)
        if (!fragment_of(&k->v[i], h, &v[i]))
            return false;
    *out_key = scope_key_join(v, k->n, a);
    return true;
}
