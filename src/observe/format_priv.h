#ifndef MZ_OBSERVE_FORMAT_PRIV_H
#define MZ_OBSERVE_FORMAT_PRIV_H
/* The format language inside: operators are rows of a table, a format is a list of steps that point to them. */
#include "base/vec.h"
#include "observe/format.h"
#include "observe/metadata.h"
#include "observe/stream_info.h"
#include "observe/text_copy.h"

/* What an operator yields. Its texts are borrowed, or lie in the value's own scratch or in the spill buffer. */
enum value_kind {
    VALUE_NONE,
    VALUE_STR,
    VALUE_NUMBER,
    VALUE_TREE,
    VALUE_QUOTED /* a string that text shows in quotes */
};
#define VALUE_SCRATCH 160
struct value {
    enum value_kind kind;
    bool clean; /* a text of ours, without control bytes: nothing to escape */
    uint64_t number;
    struct mz_str str;
    const struct mz_value *tree;
    char scratch[VALUE_SCRATCH];
    struct mz_buf
        *spill; /* made by value_spill() for texts longer than scratch; the caller empties it */
};
struct mz_buf *value_spill(struct value *v); /* an empty buffer to write to ... */
void value_take_spill(struct value *v);      /* ... whose text becomes the value */
static inline void value_str(struct value *v, struct mz_str s)
{
    v->kind = VALUE_STR;
    v->str = s;
}
static inline void value_own_str(struct value *v, struct mz_str s)
{
    value_str(v, s);
    v->clean = true;
}
static inline void value_number(struct value *v, uint64_t n)
{
    v->kind = VALUE_NUMBER;
    v->number = n;
}
static inline void value_str_or_none(struct value *v, struct mz_str s)
{
    if (s.n)
        value_str(v, s);
}

struct step;
struct operator_row;
/* Writes at most one value; a value left alone is absent. Never fails, never allocates on the common ways. */
typedef void (*value_fn)(const struct step *s, const struct mz_format_ctx *c, struct value *out);
/* Turns the text between the parentheses (given: were there any?) into the step; main thread. */
struct mz_arena;
typedef bool (*compile_fn)(struct step *s, struct mz_str param, struct mz_arena *a,
                           struct mz_err *err);

/* The operators that nearly every line has are read in place by what runs the format (format_run.c), without a call; of these
 * value is needed for the cases that are not worth it. */
enum way {
    WAY_CALL, /* value */
    WAY_LITERAL, /* no operator: text */
    WAY_U64,     /* a number at offset */
    WAY_U32,
    WAY_SINCE_START, /* ms from start_us to the time at offset */
    WAY_DURATION,
    WAY_STR,  /* a struct mz_str at offset; "" is none */
    WAY_TEXT, /* a char * at offset; NULL is none, "" is not */
    WAY_REQ,  /* a header by id, else by id2 */
    WAY_RESP,
    WAY_PROTOCOL,
    WAY_FLAGS,
    WAY_ADDR,
    WAY_START_TIME,
    WAY_SERVER_NAME,
};
enum params { PARAMS_NO, PARAMS_MAY, PARAMS_MUST };
struct operator_row {
    struct mz_str name;
    value_fn value;     /* NULL: nothing to show before its module exists (TLS): always absent */
    compile_fn compile; /* NULL: parameters are accepted and ignored, as Envoy does */
    uint16_t offset;    /* of the number or text in struct mz_stream_info that value reads */
    uint8_t params;
    bool length; /* does it take :N? */
    uint8_t way; /* enum way; compile may choose another */
};
const struct operator_row *operator_find(struct mz_str name);
const struct operator_row *operator_nearest(struct mz_str name); /* NULL when none is near */

struct time_format;
struct mz_cel;
#define LEAD_MAX 16
struct step {
    char lead[LEAD_MAX]; /* the literal before the operator; a longer one is a step of its own */
    uint8_t lead_n;
    uint8_t way;      /* enum way */
    uint8_t id, id2;  /* known headers, or small choices of the operator */
    uint16_t offset;  /* the row's */
    uint32_t limit;   /* :N; UINT32_MAX: none */
    struct mz_str text; /* WAY_LITERAL: the literal; else what compile left there */
    const struct operator_row *op; /* NULL: literal */
    struct mz_str *path;           /* metadata path, alternatives */
    uint32_t path_n;
    const struct time_format *time;
    const struct mz_cel *cel;
    const struct step *steps;       /* of COALESCE, path_n of them */
    const struct mz_format *format; /* of a JSON string with more in it than one operator */
};

/* ---- tables of rows, one per file ---- */
extern const struct operator_row operators_info[], operators_http[], operators_cel[];
extern const size_t operators_info_n, operators_http_n, operators_cel_n;

struct protocol_name {
    char text[8]; /* no NUL */
    uint8_t n;
};
extern const struct protocol_name protocol_names[]; /* by enum mz_http_protocol */

/* ---- START_TIME and its relatives (format_time.c) ---- */
const struct time_format *time_format_create(struct mz_str spec, bool local, struct mz_arena *a);
void time_value(const struct time_format *f, uint64_t wall_us, struct value *out);
enum { TIME_ISO_N = 24 }; /* 2026-11-23T00:49:22.666Z */
void time_iso(uint64_t wall_us, char out[TIME_ISO_N]);
bool time_compile_utc(struct step *s, struct mz_str param, struct mz_arena *a, struct mz_err *err);
bool time_compile_local(struct step *s, struct mz_str param, struct mz_arena *a,
                        struct mz_err *err);

/* ---- TLS of either connection (format_tls.c): offset is one in struct mz_tls_facts ---- */
void value_tls_text(const struct step *s, const struct mz_format_ctx *c, struct value *out);
void value_tls_names(const struct step *s, const struct mz_format_ctx *c, struct value *out);
void value_tls_time(const struct step *s, const struct mz_format_ctx *c, struct value *out);
void value_up_tls_text(const struct step *s, const struct mz_format_ctx *c, struct value *out);
void value_up_tls_names(const struct step *s, const struct mz_format_ctx *c, struct value *out);
void value_up_tls_time(const struct step *s, const struct mz_format_ctx *c, struct value *out);
bool compile_up_tls(struct step *s, struct mz_str param, struct mz_arena *a, struct mz_err *err);
bool compile_up_tls_time(struct step *s, struct mz_str param, struct mz_arena *a, struct mz_err *err);
void value_tls_failure(const struct step *s, const struct mz_format_ctx *c, struct value *out);

/* gRPC's status of an answer: of its trailers, else headers, else what @http_status stands for; false: none known or no number. */
bool grpc_status_of(const struct mz_headers *resp, const struct mz_headers *trailers,
                    unsigned http_status, uint64_t *out_status);

/* ---- compiled formats (format.c) ---- */
struct operator_call {
    struct mz_str name, param; /* "" without parameters */
    bool has_limit;
    uint64_t limit;
};
bool operator_compile(const struct operator_call *call, struct mz_arena *a, struct step *out,
                      struct mz_err *err);
/* A format is run step by step: the literal, then the value. What stands behind the last operator is a step without one. */
struct mz_format {
    struct mz_arena *arena;
    struct step *steps;
    size_t n;
    bool omit_empty;
};
/* Steps as they are found, with the literals between them; then the format, which takes everything over. */
struct format_builder {
    struct mz_format *f;
    MZ_VEC(struct step) steps;
    struct mz_buf literal;
};
void format_begin(struct format_builder *b, bool omit_empty);
void format_literal(struct format_builder *b, struct mz_str s);
void format_step(struct format_builder *b, const struct step *s);
struct mz_format *format_end(struct format_builder *b);

/* ---- running (format_run.c) ---- */

/* Writes to @mem while it suffices, and returns the length. Otherwise everything is in @overflow, behind what it held. */
size_t format_write(const struct mz_format *f, const struct mz_format_ctx *c, enum text_rule rule,
                    char *mem, size_t room, struct mz_buf *overflow);
size_t format_json_write(const struct mz_format_json *f, const struct mz_format_ctx *c, char *mem,
                         size_t room, struct mz_buf *overflow); /* in the same way */
/* The value of one step; @v is initialised by this call and ended by value_end(). */
void step_value(const struct step *s, const struct mz_format_ctx *c, struct value *v);
void value_end(struct value *v);

static inline const struct mz_headers *ctx_req(const struct mz_format_ctx *c)
{
    return c->req ? c->req : c->info->req;
}
static inline const struct mz_headers *ctx_resp(const struct mz_format_ctx *c)
{
    return c->resp ? c->resp : c->info->resp;
}
static inline const struct mz_headers *ctx_trailers(const struct mz_format_ctx *c)
{
    return c->trailers ? c->trailers : c->info->resp_trailers;
}
#endif
