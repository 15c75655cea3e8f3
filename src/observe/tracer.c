#include "observe/tracer.h"

void mz_hex64(uint64_t v, char out_text[17])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 15; i >= 0; i--, v >>= 4)
        out_text[i] = digits[v & 15];
    out_text[16] = '\0';
}

bool mz_hex64_parse(struct mz_str s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.n == 0 || s.n > 16)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = mz_lower(s.p[i]);
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *out = v;
    return true;
}

static void texts(struct mz_span *s)
{
    char *at = s->trace_text;
    if (s->wide) {
        mz_hex64(s->trace_hi, at);
        at += 16;
    }
    mz_hex64(s->trace_lo, at);
    mz_hex64(s->id, s->id_text);
}

struct mz_span *mz_span_start(const struct mz_span_begin *b, const struct mz_headers *req,
                              bool traced)
{
    struct mz_span *s = mz_arena_new0(b->arena, struct mz_span);
    s->tracer = b->tracer;
    s->worker = b->worker;
    s->rand = b->rand;
    s->arena = b->arena;
    s->kind = (uint8_t)b->kind;
    s->start_us = b->start_us;
    s->start_wall_us = b->start_wall_us;
    if (!b->tracer->ops->start(b->tracer, req, traced, s))
        return NULL;
    texts(s);
    return s;
}

struct mz_span *mz_span_child(const struct mz_span *parent, struct mz_str name, uint64_t start_us,
                              uint64_t start_wall_us)
{
    struct mz_span *s = mz_arena_new0(parent->arena, struct mz_span);
    s->tracer = parent->tracer;
    s->worker = parent->worker;
    s->rand = parent->rand;
    s->arena = parent->arena;
    s->trace_hi = parent->trace_hi;
    s->trace_lo = parent->trace_lo;
    s->wide = parent->wide;
    s->parent = parent->id;
    s->sampled = parent->sampled;
    s->form = parent->form;
    s->state = parent->state;
    s->kind = MZ_SPAN_CLIENT;
    s->name = name;
    s->start_us = start_us;
    s->start_wall_us = start_wall_us;
    s->tracer->ops->child(parent, s);
    texts(s);
    return s;
}

static void grow(struct mz_span *s)
{
    uint32_t cap = s->cap_tags ? s->cap_tags * 2 : 32;
    struct mz_tag *v = mz_arena_alloc(s->arena, mz_mul(cap, sizeof(*v)));
    if (s->n_tags)
        memcpy(v, s->tags, s->n_tags * sizeof(*v));
    s->tags = v;
    s->cap_tags = cap;
}

void mz_span_tag(struct mz_span *s, struct mz_str key, struct mz_str value)
{
    if (!s->sampled)
        return;
    for (uint32_t i = 0; i < s->n_tags; i++)
        if (mz_str_eq(s->tags[i].key, key)) {
            s->tags[i].value = value;
            return;
        }
    if (s->n_tags == s->cap_tags)
        grow(s);
    s->tags[s->n_tags++] = (struct mz_tag){ key, value };
}

void mz_span_event(struct mz_span *s, const char *name, uint64_t wall_us)
{
    if (!s->sampled || s->n_events == MZ_SPAN_EVENTS)
        return;
    s->events[s->n_events].name = name;
    s->events[s->n_events++].wall_us = wall_us;
}

void mz_span_inject(const struct mz_span *s, struct mz_headers *h)
{
    s->tracer->ops->inject(s, h);
}

void mz_span_finish(struct mz_span *s, uint64_t end_us)
{
    s->end_us = end_us;
    if (s->sampled)
        s->tracer->ops->report(s);
}
