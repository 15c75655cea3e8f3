/* Doubles of libraries that are not linked into the tests of this folder yet: the least that the tests look at. */
#include "base/test.h"

#include "observe/decision.h"
#include "proto/mapper.h"
#include "route/route.h"
#include "route/route_test.h"
#include "upstream/cluster.h"

struct mz_format_json *mz_format_json_create(const struct Google__Protobuf__Struct *s, bool omit,
                                             bool sort, struct mz_err *err)
{
    (void)s, (void)omit, (void)sort;
    mz_err_set(err, "no JSON formats here");
    return NULL;
}
void mz_format_json_destroy(struct mz_format_json *f)
{
    (void)f;
}

struct mz_string_match {
    struct mz_str text;
    bool prefix;
};
struct mz_string_match *
mz_string_match_build(const struct Envoy__Type__Matcher__V3__StringMatcher *m, struct mz_err *err)
{
    (void)err;
    struct mz_string_match *s = mz_new0(MZ_MEM_CONFIG, struct mz_string_match);
    s->prefix = m->match_pattern_case == pb_StringMatcher_MATCH_PATTERN_PREFIX;
    s->text = mz_str_c(s->prefix ? m->prefix : m->exact);
    s->text.p = mz_strndup(MZ_MEM_CONFIG, s->text.p, s->text.n);
    return s;
}
void mz_string_match_destroy(struct mz_string_match *m)
{
    if (m)
        mz_free(MZ_MEM_CONFIG, (void *)(uintptr_t)m->text.p);
    mz_free(MZ_MEM_CONFIG, m);
}
bool mz_string_match(const struct mz_string_match *m, struct mz_str s)
{
    return m->prefix ? mz_str_starts(s, m->text) : mz_str_eq(s, m->text);
}

struct mz_header_match {
    struct mz_str name;
    struct mz_string_match *value;
};
struct mz_header_match *
mz_header_match_build(const struct Envoy__Config__Route__V3__HeaderMatcher *m, struct mz_err *err)
{
    struct mz_header_match *h = mz_new0(MZ_MEM_CONFIG, struct mz_header_match);
    h->name = mz_str_c(m->name);
    h->name.p = mz_strndup(MZ_MEM_CONFIG, h->name.p, h->name.n);
    if (m->header_match_specifier_case == pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_STRING_MATCH)
        h->value = mz_string_match_build(m->string_match, err);
    return h;
}
void mz_header_match_destroy(struct mz_header_match *m)
{
    if (!m)
        return;
    mz_string_match_destroy(m->value);
    mz_free(MZ_MEM_CONFIG, (void *)(uintptr_t)m->name.p);
    mz_free(MZ_MEM_CONFIG, m);
}
bool mz_header_match(const struct mz_header_match *m, const struct mz_headers *h)
{
    const struct mz_header *e = mz_headers_get(h, m->name);
    return e && (!m->value || mz_string_match(m->value, e->value));
}
const char *mz_header_match_text(const struct mz_header_match *m)
{
    return m->name.p;
}
struct mz_metadata_match *
mz_metadata_match_build(const struct Envoy__Type__Matcher__V3__MetadataMatcher *m,
                        struct mz_err *err)
{
    (void)m;
    mz_err_set(err, "no metadata matchers here");
    return NULL;
}
void mz_metadata_match_destroy(struct mz_metadata_match *m)
{
    (void)m;
}
bool mz_metadata_match(const struct mz_metadata_match *m, const struct mz_meta *meta)
{
    (void)m, (void)meta;
    return false;
}
void mz_decision_step(struct mz_decision *d, uint64_t now_us, enum mz_step_kind k, struct mz_str a,
                      struct mz_str b, int64_t n, int64_t m)
{
    if (d->n < MZ_DECISION_STEPS)
        d->v[d->n++] = (struct mz_step){ (uint8_t)k, (uint32_t)now_us, a, b, n, m };
}

const struct mz_runtime *mz_runtime_here(void)
{
    return NULL;
}
bool mz_runtime_fraction(const struct mz_runtime *r, const struct mz_fraction *f, uint64_t random)
{
    (void)r;
    return random % f->denominator < f->numerator;
}
uint64_t mz_runtime_u64(const struct mz_runtime *r, struct mz_str key, uint64_t def)
{
    (void)r;
    return mz_str_eq(key, MZ_STR("w.one")) ? 0 : def;
}

bool mz_cluster_manager_has(const struct mz_cluster_manager *m, struct mz_str name)
{
    (void)m;
    return !mz_str_eq(name, MZ_STR("ghost"));
}
