#include "observe/decision.h"
#include "base/arena.h"
#include "observe/json_text.h"
#include "observe/plain_text.h"

static const struct step_text {
    struct mz_str name, text;
} step_texts[MZ_STEP__COUNT] = {
#define X(id, text) [MZ_STEP_##id] = { MZ_STR_INIT(#id), MZ_STR_INIT(text) },
    MZ_STEPS(X)
#undef X
};

struct mz_decision *mz_decision_create(struct mz_arena *a, uint64_t now_us)
{
    struct mz_decision *d =
        mz_arena_alloc(a, sizeof(*d)); /* steps are written before they are read */
    d->start_us = now_us;
    d->n = d->dropped = d->routes_skipped = 0;
    d->refused = false;
    return d;
}

void mz_decision_step(struct mz_decision *d, uint64_t now_us, enum mz_step_kind k, struct mz_str a,
                      struct mz_str b, int64_t n, int64_t m)
{
    if (!d)
        return;
    d->refused |= k == MZ_STEP_FILTER;
    if (d->n == MZ_DECISION_STEPS) {
        if (d->dropped < UINT16_MAX)
            d->dropped++;
        return;
    }
    uint64_t at = now_us > d->start_us ? now_us - d->start_us : 0;
    d->v[d->n++] =
        (struct mz_step){ (uint8_t)k, at < UINT32_MAX ? (uint32_t)at : UINT32_MAX, a, b, n, m };
}

static void number_write(struct mz_buf *out, int64_t n)
{
    char digits[20];
    if (n < 0)
        mz_buf_append(out, "-", 1);
    mz_buf_append(out, digits, mz_u64_text(n < 0 ? 0 - (uint64_t)n : (uint64_t)n, digits));
}

static void name_write(struct mz_buf *out, struct mz_str s)
{
    if (s.n)
        mz_plain_text(out, s);
    else
        mz_buf_append_str(out, MZ_STR("(unnamed)"));
}

/* The English text of a step, its places filled in; nothing in it can break a line. */
static void step_write(struct mz_buf *out, const struct mz_step *s)
{
    struct mz_str rest =
        s->kind < MZ_STEP__COUNT ? step_texts[s->kind].text : MZ_STR("(unknown step)");
    for (ptrdiff_t at; (at = mz_str_chr(rest, '%')) >= 0;
         rest = mz_str_skip(rest, (size_t)at + 2)) {
        mz_buf_append(out, rest.p, (size_t)at);
        char place = rest.p[at + 1]; /* every text of MZ_STEPS has a letter behind its '%' */
        if (place == 's' || place == 't')
            name_write(out, place == 's' ? s->a : s->b);
        else
            number_write(out, place == 'n' ? s->n : s->m);
    }
    mz_buf_append_str(out, rest);
}

void mz_decision_text(const struct mz_decision *d, struct mz_buf *out)
{
    for (unsigned i = 0; i < d->n; i++) {
        mz_buf_printf(out, "  %6u.%03u ms  ", d->v[i].at_us / 1000, d->v[i].at_us % 1000);
        step_write(out, &d->v[i]);
        mz_buf_append(out, "\n", 1);
    }
    if (d->dropped)
        mz_buf_printf(out, "  and %u more steps that found no room\n", d->dropped);
}

/* The parts of its text, for programs. */
static void parts_write(struct mz_buf *out, const struct mz_step *s)
{
    const struct mz_str text = s->kind < MZ_STEP__COUNT ? step_texts[s->kind].text : MZ_STR("");
    if (mz_str_find(text, MZ_STR("%s")) >= 0) {
        mz_buf_append_str(out, MZ_STR(",\"a\":"));
        mz_json_string(out, s->a);
    }
    if (mz_str_find(text, MZ_STR("%t")) >= 0) {
        mz_buf_append_str(out, MZ_STR(",\"b\":"));
        mz_json_string(out, s->b);
    }
    if (mz_str_find(text, MZ_STR("%n")) >= 0)
        mz_buf_printf(out, ",\"n\":%lld", (long long)s->n);
    if (mz_str_find(text, MZ_STR("%m")) >= 0)
        mz_buf_printf(out, ",\"m\":%lld", (long long)s->m);
}

void mz_decision_json(const struct mz_decision *d, struct mz_buf *out)
{
    mz_buf_append(out, "[", 1);
    for (unsigned i = 0; i < d->n; i++) {
        const struct mz_step *s = &d->v[i];
        struct mz_buf text;
        mz_buf_init(&text);
        step_write(&text, s);
        mz_buf_printf(out,
                      "%s{\"at_ms\":%u.%03u,\"step\":\"" MZ_STR_FMT "\",\"text\":", i ? "," : "",
                      s->at_us / 1000, s->at_us % 1000, MZ_STR_ARG(step_texts[s->kind].name));
        mz_json_string(out, mz_buf_linearize(&text, mz_buf_len(&text)));
        parts_write(out, s);
        mz_buf_append(out, "}", 1);
        mz_buf_fini(&text);
    }
    mz_buf_append(out, "]", 1);
}
