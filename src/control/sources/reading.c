#include "control/sources/reading.h"

#include "base/parallel.h"

enum {
    WINDOW = 1024,       /* parts that are read before their documents are put where they belong */
    LOOK_AHEAD = 64,     /* parts that went, at most, for those behind them to be found again */
    THREAD_BYTES = 32768 /* of text: what a thread is worth starting for */
};

struct job { /* a part */
    const struct text *of;
    struct mz_str bytes;
    uint32_t line0;
    struct mz_part part;
    const struct mz_part *known; /* the same bytes, the last time; NULL: none */
    size_t known_at;             /* its first document */
    struct mz_content found;
};
struct text {
    struct mz_str file;
    enum mz_text_form form;
    const struct mz_content *before;
    struct mz_content *out;
    size_t next, next_at; /* of the parts before, and of their documents */
};
struct mz_reading {
    struct job *jobs;
    size_t n, unknown_bytes;
    MZ_VEC(struct text *) texts;
};

/* ---- what is found ---- */

struct mz_note mz_note_make(enum mz_level level, uint32_t line, struct mz_str key, const char *text)
{
    const size_t n = strlen(text);
    char *own = mz_alloc(MZ_MEM_CONFIG, n + 1 + key.n);
    memcpy(own, text, n + 1);
    if (key.n)
        memcpy(own + n + 1, key.p, key.n);
    return (struct mz_note){ level, line, { own + n + 1, key.n }, own };
}

void mz_notes_clear(struct mz_note *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mz_free(MZ_MEM_CONFIG, v[i].text);
}

void mz_content_fini(struct mz_content *c)
{
    mz_vec_foreach (d, &c->docs)
        mz_doc_unref(*d);
    mz_notes_clear(c->notes.v, c->notes.n);
    mz_vec_free(&c->docs, MZ_MEM_CONFIG);
    mz_vec_free(&c->notes, MZ_MEM_CONFIG);
    mz_vec_free(&c->parts, MZ_MEM_CONFIG);
}

void mz_content_tell(struct mz_content *c, enum mz_level level, uint32_t line, struct mz_str key,
                     const char *text)
{
    c->broken |= level == MZ_LEVEL_ERROR && !key.n;
    *mz_vec_push(&c->notes, MZ_MEM_CONFIG) = mz_note_make(level, line, key, text);
}

static void take_doc(void *arg, struct mz_doc *d)
{
    struct mz_content *c = arg;
    *mz_vec_push(&c->docs, MZ_MEM_CONFIG) = d;
}

static void take_problem(void *arg, enum mz_level level, uint32_t line, struct mz_str key,
                         const char *text)
{
    mz_content_tell(arg, level, line, key, text);
}

/* ---- one part ---- */

/* On any thread. */
static void read_one(void *arg, size_t i)
{
    struct job *j = &((struct job *)arg)[i];
    const struct mz_doc_reader r = { j->of->file, take_doc, take_problem, &j->found };
    if (!j->known)
        mz_doc_read_part(&r, j->bytes, j->of->form, j->line0);
}

static void put_known(const struct job *j)
{
    struct mz_content *out = j->of->out;
    for (size_t i = 0; i < j->known->docs_n; i++) {
        const struct mz_doc *d = j->of->before->docs.v[j->known_at + i];
        *mz_vec_push(&out->docs, MZ_MEM_CONFIG) =
            mz_doc_at_line(d, d->line - j->known->line0 + j->line0);
    }
}

static void put_found(struct job *j)
{
    struct mz_content *out = j->of->out, *found = &j->found;
    if (found->notes.n)
        j->part.hash = 0;
    out->broken |= found->broken;
    mz_vec_foreach (d, &found->docs)
        *mz_vec_push(&out->docs, MZ_MEM_CONFIG) = *d; /* the reference moves */
    mz_vec_foreach (n, &found->notes)
        *mz_vec_push(&out->notes, MZ_MEM_CONFIG) = *n;
    found->docs.n = found->notes.n = 0;
    mz_content_fini(found);
}

static void run(struct mz_reading *r)
{
    const size_t worth = r->unknown_bytes / THREAD_BYTES;
    uint32_t threads = 1;
    if (worth > 1) {
        threads = mz_cpus();
        threads = worth < threads ? (uint32_t)worth : threads;
    }
    mz_parallel(r->n, threads, read_one, r->jobs);
    for (size_t i = 0; i < r->n; i++) {
        struct job *j = &r->jobs[i];
        const size_t before = j->of->out->docs.n;
        if (j->known)
            put_known(j);
        else
            put_found(j);
        j->part.docs_n = (uint32_t)(j->of->out->docs.n - before);
        *mz_vec_push(&j->of->out->parts, MZ_MEM_CONFIG) = j->part;
    }
    r->n = r->unknown_bytes = 0;
}

/* ---- texts ---- */

/* Most parts stand where they stood, or a few places away. */
static void find_known(struct text *t, struct job *j)
{
    const struct mz_content *before = t->before;
    size_t at = t->next_at;
    for (size_t i = t->next; before && i < before->parts.n && i - t->next <= LOOK_AHEAD; i++) {
        const struct mz_part *p = &before->parts.v[i];
        if (p->hash == j->part.hash) {
            j->known = p;
            j->known_at = at;
            t->next = i + 1;
            t->next_at = at + p->docs_n;
            return;
        }
        at += p->docs_n;
    }
}

struct adding {
    struct mz_reading *r;
    struct text *t;
};

static void add_part(void *arg, struct mz_str bytes, uint32_t line0)
{
    const struct adding *a = arg;
    if (a->r->n == WINDOW)
        run(a->r);
    struct job *j = &a->r->jobs[a->r->n++];
    const uint64_t hash = mz_str_hash(bytes);
    *j = (struct job){ .of = a->t,
                       .bytes = bytes,
                       .line0 = line0,
                       .part = { .hash = hash ? hash : 1, .line0 = line0 } };
    find_known(a->t, j);
    if (!j->known)
        a->r->unknown_bytes += bytes.n;
}

struct mz_reading *mz_reading_create(void)
{
    struct mz_reading *r = mz_new0(MZ_MEM_CONFIG, struct mz_reading);
    r->jobs = mz_alloc(MZ_MEM_CONFIG, mz_mul(WINDOW, sizeof(*r->jobs)));
    return r;
}

void mz_reading_add(struct mz_reading *r, struct mz_str file, struct mz_str text,
                    enum mz_text_form form, const struct mz_content *before, struct mz_content *out)
{
    struct text *t = mz_new0(MZ_MEM_CONFIG, struct text);
    struct adding a = { r, t };
    *t = (struct text){ .file = file, .form = form, .before = before, .out = out };
    *mz_vec_push(&r->texts, MZ_MEM_CONFIG) = t;
    mz_doc_divide(text, form, add_part, &a);
}

void mz_reading_end(struct mz_reading *r)
{
    run(r);
    mz_vec_foreach (t, &r->texts)
        mz_free(MZ_MEM_CONFIG, *t);
    mz_vec_free(&r->texts, MZ_MEM_CONFIG);
    mz_free(MZ_MEM_CONFIG, r->jobs);
    mz_free(MZ_MEM_CONFIG, r);
}
