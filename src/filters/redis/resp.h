#ifndef MZ_FILTERS_REDIS_RESP_H
#define MZ_FILTERS_REDIS_RESP_H
/* RESP2, the protocol of Redis: values out of bytes in whatever pieces they come, and back. No sockets, no statistics. */
#include "base/arena.h"
#include "base/buf.h"

#define RESP_DEPTH     64           /* arrays within arrays */
#define RESP_ITEMS_MAX (1u << 20)   /* of an array, as redis-server */
#define RESP_BULK_MAX  (512u << 20) /* bytes of a string, as redis-server (proto-max-bulk-len) */
#define RESP_COMMAND_MAX (64u << 20) /* bytes of a command, what keeping it costs included */
#define RESP_LINE_MAX  65536        /* bytes of a simple string, an error, an inline command */

enum resp_type { RESP_NULL, RESP_SIMPLE, RESP_ERROR, RESP_INTEGER, RESP_BULK, RESP_ARRAY };
struct resp_value {
    enum resp_type type;
    struct mz_str text; /* SIMPLE, ERROR, BULK */
    int64_t integer;
    struct resp_value *first, *last; /* ARRAY: its items ... */
    struct resp_value *next;         /* ... and their order */
    size_t n;
};
struct resp_decoder { /* zeroed: at a beginning */
    bool commands;  /* of a client: a line of words is a command too */
    unsigned state; /* private from here on */
    struct mz_arena *arena;
    struct resp_value *root;
    struct {
        struct resp_value *array;
        uint64_t left;
    } stack[RESP_DEPTH];
    unsigned depth;
    struct resp_value *at; /* being read */
    bool negative, digits;
    uint64_t number;
    struct mz_buf text;
    size_t bytes; /* of the value so far */
};
enum resp_result { RESP_MORE, RESP_VALUE, RESP_BROKEN };
/* Takes bytes from @in up to the end of one value, which lies in *out_arena: the caller's now. BROKEN: nothing can be read any more. */
enum resp_result resp_decode(struct resp_decoder *d, struct mz_buf *in, struct mz_arena **out_arena,
                             const struct resp_value **out);
void resp_fini(struct resp_decoder *d);

void resp_encode(struct mz_buf *out, const struct resp_value *v);
void resp_array(struct mz_buf *out, size_t n); /* the head of one: its items follow */
void resp_bulk(struct mz_buf *out, struct mz_str s);
void resp_integer(struct mz_buf *out, int64_t n);
void resp_simple(struct mz_buf *out, struct mz_str s); /* CR and LF become blanks, here and there */
void resp_error(struct mz_buf *out, struct mz_str s);
#endif
