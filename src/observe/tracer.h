#ifndef MZ_OBSERVE_TRACER_H
#define MZ_OBSERVE_TRACER_H
/*
 * Spans (O3). A span lies in its stream's arena, on the stream's thread, until it is finished: then its tracer packs what it says
 * into a buffer of the thread. Tracers are found by a table that the server sets (struct mz_factory), as their services are above.
 */
#include "base/arena.h"
#include "base/err.h"
#include "base/rand.h"
#include "http/header_map.h"

struct mz_factory;
struct mz_worker;
struct mz_tracer;

enum mz_span_kind { MZ_SPAN_SERVER, MZ_SPAN_CLIENT };
struct mz_tag {
    struct mz_str key, value;
};
#define MZ_SPAN_EVENTS 8
struct mz_span {
    const struct mz_tracer *tracer; /* borrowed: the configuration that the stream holds has it */
    const struct mz_worker *worker;
    struct mz_rand *rand;
    struct mz_arena *arena;
    uint64_t trace_hi, trace_lo, id, parent; /* parent 0: none */
    bool wide;     /* the trace's id has 128 bits */
    bool sampled;  /* it is reported */
    uint8_t form;  /* of the context in headers; the tracer's own */
    uint8_t kind;  /* enum mz_span_kind */
    struct mz_str name, state; /* state: what other tracers want handed on (tracestate) */
    uint64_t start_us, start_wall_us, end_us; /* end: monotonic, as start_us */
    struct mz_tag *tags;
    uint32_t n_tags, cap_tags, n_events;
    struct {
        const char *name; /* static */
        uint64_t wall_us;
    } events[MZ_SPAN_EVENTS];
    bool error;
    unsigned status; /* as the tag http.status_code; 0: none */
    char trace_text[33], id_text[17]; /* hexadecimal; id_text "" where logs are not to show it */
};

struct mz_tracer_ops {
    /* Sets ids, sampled, form and state by the request's headers; @traced: what the manager decided. False: no span at all. */
    bool (*start)(const struct mz_tracer *t, const struct mz_headers *req, bool traced, struct mz_span *s);
    void (*child)(const struct mz_span *parent, struct mz_span *s); /* the same of a span below another */
    void (*inject)(const struct mz_span *s, struct mz_headers *h);
    void (*report)(const struct mz_span *s); /* it is sampled and has ended */
    void (*destroy)(struct mz_tracer *t);    /* main thread */
};
struct mz_tracer { /* first member of the tracer's own */
    const struct mz_tracer_ops *ops;
    bool shows_ids;     /* span ids stand in access logs */
    bool names_by_host; /* spans are called by the request's host, else by their direction */
};
struct mz_tracer_type {
    const char *config_type;
    struct mz_tracer *(*create)(const void *msg, const struct mz_factory *f, struct mz_err *err); /* main thread */
};

struct mz_span_begin {
    const struct mz_tracer *tracer;
    const struct mz_worker *worker;
    struct mz_rand *rand;
    struct mz_arena *arena;
    enum mz_span_kind kind;
    uint64_t start_us, start_wall_us;
};
struct mz_span *mz_span_start(const struct mz_span_begin *b, const struct mz_headers *req, bool traced); /* NULL: none */
struct mz_span *mz_span_child(const struct mz_span *parent, struct mz_str name, uint64_t start_us, uint64_t start_wall_us);
/* Replaces a tag of that name. Both live as long as the span's arena. No span that is not sampled keeps any. */
void mz_span_tag(struct mz_span *s, struct mz_str key, struct mz_str value);
void mz_span_event(struct mz_span *s, const char *name, uint64_t wall_us);
void mz_span_inject(const struct mz_span *s, struct mz_headers *h);
void mz_span_finish(struct mz_span *s, uint64_t end_us);

void mz_hex64(uint64_t v, char out_text[17]); /* 16 digits and a NUL */
/* The whole of @s, 1 to 16 digits of either case. */
bool mz_hex64_parse(struct mz_str s, uint64_t *out);
#endif
