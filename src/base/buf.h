#ifndef MZ_BASE_BUF_H
#define MZ_BASE_BUF_H
/*
 * Byte queues made of reference-counted slices. Bodies move from a socket to another without being copied: a read fills
 * slices, mz_buf_move() hands the fragments on, writev gathers them. A buffer belongs to one thread, and so do its slices
 * (counts are not atomic; the thread keeps a free list of standard slices).
 */
#include "base/str.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define MZ_SLICE_BYTES 16384 /* usable bytes of a standard slice */

struct mz_slice {
    uint32_t refs;
    uint32_t cap;
    char *mem;
    void (*release)(struct mz_slice *s); /* runs when refs reach 0; NULL for slices of this module */
};
struct mz_slice *mz_slice_create(size_t cap); /* refs 1; MZ_SLICE_BYTES comes from the free list */
void mz_slice_unref(struct mz_slice *s);      /* NULL is fine */
void mz_slice_thread_trim(void);              /* gives the thread's free slices back to malloc */

struct mz_frag {
    char *p;
    size_t n;
    struct mz_slice *slice; /* one reference held */
};
struct mz_buf {
    size_t len;
    struct mz_frag *heap; /* ring when it outgrew inl, else NULL */
    uint32_t first, n, cap;
    struct mz_frag inl[2];
};

static inline void mz_buf_init(struct mz_buf *b) /* all-zero memory is also an empty buffer once cap is set: always call it */
{
    b->len = 0;
    b->heap = NULL;
    b->first = b->n = 0;
    b->cap = sizeof(b->inl) / sizeof(b->inl[0]);
}
void mz_buf_drop(struct mz_buf *b);
static inline void mz_buf_fini(struct mz_buf *b) /* drops everything; the buffer is empty and usable afterwards */
{
    if (b->n || b->heap) /* else it is as mz_buf_init() left it */
        mz_buf_drop(b);
}
static inline size_t mz_buf_len(const struct mz_buf *b)
{
    return b->len;
}

static inline const struct mz_frag *mz_buf_frag(const struct mz_buf *b, uint32_t i) /* i below b->n */
{
    uint32_t k = b->first + i;
    return &(b->heap ? b->heap : b->inl)[k < b->cap ? k : k - b->cap];
}

void mz_buf_append(struct mz_buf *b, const void *p, size_t n); /* copies */
static inline void mz_buf_append_str(struct mz_buf *b, struct mz_str s)
{
    mz_buf_append(b, s.p, s.n);
}
__attribute__((format(printf, 2, 3))) void mz_buf_printf(struct mz_buf *b, const char *fmt, ...);
void mz_buf_append_slice(struct mz_buf *b, struct mz_slice *s, char *p, size_t n); /* shares: takes a new reference */
void mz_buf_take_slice(struct mz_buf *b, struct mz_slice *take, char *p, size_t n); /* the caller's reference moves; n is not 0 */
void mz_buf_prepend(struct mz_buf *b, const void *p, size_t n);                    /* copies */
void mz_buf_move(struct mz_buf *dst, struct mz_buf *src, size_t n); /* first n bytes to the end of dst; n <= len of src */
static inline void mz_buf_move_all(struct mz_buf *dst, struct mz_buf *src)
{
    mz_buf_move(dst, src, src->len);
}
void mz_buf_copy(struct mz_buf *dst, const struct mz_buf *src); /* shares the slices of src: for mirrors and retries */
void mz_buf_drain(struct mz_buf *b, size_t n);                  /* n <= len */

/* Room for at least n contiguous bytes at the end; written bytes count only after mz_buf_commit(). */
char *mz_buf_reserve(struct mz_buf *b, size_t n, size_t *out_room);
void mz_buf_commit(struct mz_buf *b, size_t n);
/* Up to max places for readv, together about want bytes; commit what was read with mz_buf_commit_iov(). */
unsigned mz_buf_reserve_iov(struct mz_buf *b, struct iovec *iov, unsigned max, size_t want);
void mz_buf_commit_iov(struct mz_buf *b, size_t n); /* also drops the places that stayed empty */

unsigned mz_buf_iov(const struct mz_buf *b, struct iovec *iov, unsigned max); /* the first fragments, for writev */
struct mz_str mz_buf_first_filled(const struct mz_buf *b);
static inline struct mz_str mz_buf_first(const struct mz_buf *b) /* the first fragment; empty when empty */
{
    const struct mz_frag *f = &(b->heap ? b->heap : b->inl)[b->first];
    return b->n && f->n ? (struct mz_str){ f->p, f->n } : mz_buf_first_filled(b);
}
struct mz_str mz_buf_linearize(struct mz_buf *b, size_t n); /* makes the first n bytes contiguous; n <= len */
size_t mz_buf_copyout(const struct mz_buf *b, size_t from, void *out, size_t n); /* returns the bytes copied */
ptrdiff_t mz_buf_find(const struct mz_buf *b, char c, size_t from); /* position, or -1 */
void mz_buf_compact(struct mz_buf *b); /* a small rest in a large slice moves to a slice of its size (E01, idle peers) */

/* Tells when a queue crosses its limits; high 0 means no limit. Below means: at or under low, after having been above. */
struct mz_watermark {
    size_t high, low;
    bool above;
};
enum mz_wm_change { MZ_WM_SAME, MZ_WM_ABOVE, MZ_WM_BELOW };
static inline void mz_watermark_init(struct mz_watermark *w, size_t high)
{
    *w = (struct mz_watermark){ high, high / 2, false };
}
static inline enum mz_wm_change mz_watermark_update(struct mz_watermark *w, size_t len)
{
    if (!w->above && w->high && len > w->high) {
        w->above = true;
        return MZ_WM_ABOVE;
    }
    if (w->above && len <= w->low) {
        w->above = false;
        return MZ_WM_BELOW;
    }
    return MZ_WM_SAME;
}
#endif
