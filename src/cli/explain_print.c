/* The story of a request: how it grows, and how it is shown. */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/explain.h"
#include "control/debug/json.h"

struct chapter *story_chapter(struct story *s, const char *direction, struct mz_str pod,
                              struct mz_str title)
{
    struct chapter *c = mz_vec_push(&s->chapters, MZ_MEM_MISC);
    *c = (struct chapter){ .title = mz_arena_dup(s->arena, title),
                           .pod = mz_arena_dup(s->arena, pod),
                           .direction = direction };
    return c;
}

struct said *story_say(struct story *s, const char *topic, const char *fmt, ...)
{
    struct chapter *c = &s->chapters.v[s->chapters.n - 1];
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* a proxy's own texts are shorter */
    va_end(ap);
    struct said *d = mz_vec_push(&c->steps, MZ_MEM_MISC);
    *d = (struct said){ .topic = topic, .text = mz_arena_dup(s->arena, mz_str_c(text)) };
    return d;
}

void said_by(struct said *s, struct object_ref by)
{
    if (!by.name.n || s->by_n == MZ_COUNT(s->by))
        return;
    for (unsigned i = 0; i < s->by_n; i++)
        if (mz_str_eq(s->by[i].kind, by.kind) && mz_str_eq(s->by[i].name, by.name) &&
            mz_str_eq(s->by[i].ns, by.ns))
            return;
    s->by[s->by_n++] = by;
}

void story_fini(struct story *s)
{
    mz_vec_foreach (c, &s->chapters)
        mz_vec_free(&c->steps, MZ_MEM_MISC);
    mz_vec_free(&s->chapters, MZ_MEM_MISC);
}

/* ---- text ---- */

enum { TOPIC_WIDTH = 14 };
struct paint {
    const char *title, *topic, *by, *bad, *end;
};

static struct paint paint_for(FILE *to)
{
    static const struct paint colours = { "\033[1m", "\033[36m", "\033[2m", "\033[31m", "\033[0m" },
                              none = { "", "", "", "", "" };
    return isatty(fileno(to)) ? colours : none;
}

static void step_text(const struct said *d, const struct paint *p, FILE *to)
{
    fprintf(to, "  %s%-*s%s %s", p->topic, TOPIC_WIDTH, d->topic, p->end, d->bad ? p->bad : "");
    show_text(d->text, to);
    fprintf(to, "%s\n", d->bad ? p->end : "");
    for (unsigned i = 0; i < d->by_n; i++) {
        const struct object_ref *o = &d->by[i];
        fprintf(to, "  %-*s   %s", TOPIC_WIDTH, "", p->by);
        show_text(o->kind, to);
        fputc(' ', to);
        show_text(o->ns, to);
        fputs(o->ns.n ? "/" : "", to);
        show_text(o->name, to);
        fputs(o->where.n ? "  " : "", to);
        show_text(o->where, to);
        fprintf(to, "%s\n", p->end);
    }
}

void story_text(const struct story *s, struct mz_str request, FILE *to)
{
    const struct paint p = paint_for(to);
    fputs(p.title, to);
    show_text(request, to);
    fprintf(to, "%s\n", p.end);
    for (size_t i = 0; i < s->chapters.n; i++) {
        const struct chapter *c = &s->chapters.v[i];
        fprintf(to, "\n%s", p.title);
        show_text(c->title, to);
        fprintf(to, "%s\n", p.end);
        for (size_t k = 0; k < c->steps.n; k++)
            step_text(&c->steps.v[k], &p, to);
    }
    if (!s->outcome.n)
        return;
    fprintf(to, "\n%s%s", p.title, s->arrives ? "" : p.bad);
    show_text(s->outcome, to);
    fprintf(to, "%s\n", p.end);
}

/* ---- JSON ---- */

static void step_json(struct json_out *j, const struct said *d)
{
    json_open(j, '{');
    json_member(j, "topic", mz_str_c(d->topic));
    json_member(j, "text", d->text);
    if (d->bad) {
        json_key(j, "ends");
        json_bool(j, true);
    }
    if (d->by_n) {
        json_key(j, "decidedBy");
        json_open(j, '[');
        for (unsigned i = 0; i < d->by_n; i++) {
            json_open(j, '{');
            json_member(j, "kind", d->by[i].kind);
            json_member(j, "namespace", d->by[i].ns);
            json_member(j, "name", d->by[i].name);
            json_member(j, "where", d->by[i].where);
            json_close(j, '}');
        }
        json_close(j, ']');
    }
    json_close(j, '}');
}

void story_json(const struct story *s, struct mz_str request, FILE *to)
{
    struct mz_buf b;
    mz_buf_init(&b);
    struct json_out j = { .b = &b };
    json_open(&j, '{');
    json_member(&j, "request", request);
    json_key(&j, "hops");
    json_open(&j, '[');
    for (size_t i = 0; i < s->chapters.n; i++) {
        const struct chapter *c = &s->chapters.v[i];
        json_open(&j, '{');
        json_member(&j, "title", c->title);
        json_member(&j, "pod", c->pod);
        json_member(&j, "direction", mz_str_c(c->direction));
        json_key(&j, "steps");
        json_open(&j, '[');
        for (size_t k = 0; k < c->steps.n; k++)
            step_json(&j, &c->steps.v[k]);
        json_close(&j, ']');
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_key(&j, "arrives");
    json_bool(&j, s->arrives);
    json_member(&j, "outcome", s->outcome);
    json_close(&j, '}');
    mz_buf_append(&b, "\n", 1);
    show_write(&b, to);
    mz_buf_fini(&b);
}
