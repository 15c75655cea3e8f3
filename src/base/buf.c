#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CACHE_MAX 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CACHE_MAX 0
#endif
#endif
#ifndef CACHE_MAX
#define CACHE_MAX 24
#endif
#define IOV_ROOM_MIN 1024 /* less room behind the last fragment is not worth a place in a readv */
#define COPY_MAX     512 /* a shorter fragment is copied rather than shared when buffers are joined */

static _Thread_local struct mz_slice *cache; /* linked through mem */
static _Thread_local unsigned cache_n;

struct mz_slice *mz_slice_create(size_t cap)
{
    struct mz_slice *s = cache;
    if (cap == MZ_SLICE_BYTES && s) {
        cache = (struct mz_slice *)(void *)s->mem;
        cache_n--;
    } else {
        s = mz_alloc(MZ_MEM_BUFFER, sizeof(*s) + cap);
        s->cap = (uint32_t)cap;
        s->release = NULL;
    }
    s->mem = (char *)(s + 1);
    s->refs = 1;
    return s;
}

void mz_slice_unref(struct mz_slice *s)
{
    if (!s || --s->refs)
        return;
    if (s->release) {
        s->release(s);
    } else if (s->cap == MZ_SLICE_BYTES && cache_n + 1 <= CACHE_MAX) {
        s->mem = (char *)cache;
        cache = s;
        cache_n++;
    } else {
        mz_free(MZ_MEM_BUFFER, s);
    }
}

void mz_slice_thread_trim(void)
{
    for (struct mz_slice *s = cache, *next; s; s = next) {
        next = (struct mz_slice *)(void *)s->mem;
        mz_free(MZ_MEM_BUFFER, s);
    }
    cache = NULL;
    cache_n = 0;
}

static inline struct mz_frag *at(const struct mz_buf *b, uint32_t i)
{
    uint32_t k = b->first + i;
    if (k >= b->cap)
        k -= b->cap;
    struct mz_buf *w = (struct mz_buf *)(uintptr_t)b;
    return b->heap ? &b->heap[k] : &w->inl[k];
}

static inline struct mz_frag *head(const struct mz_buf *b)
{
    struct mz_buf *w = (struct mz_buf *)(uintptr_t)b;
    return b->heap ? &b->heap[b->first] : &w->inl[b->first];
}

void mz_buf_drop(struct mz_buf *b)
{
    for (uint32_t i = 0; i < b->n; i++)
        mz_slice_unref(at(b, i)->slice);
    if (b->heap)
        mz_free(MZ_MEM_BUFFER, b->heap);
    mz_buf_init(b);
}

static void grow(struct mz_buf *b)
{
    uint32_t cap = b->cap * 2 < 8 ? 8 : b->cap * 2;
    struct mz_frag *v = mz_alloc(MZ_MEM_BUFFER, cap * sizeof(*v));
    for (uint32_t i = 0; i < b->n; i++)
        v[i] = *at(b, i);
    mz_free(MZ_MEM_BUFFER, b->heap);
    b->heap = v;
    b->first = 0;
    b->cap = cap;
}

static struct mz_frag *push_tail(struct mz_buf *b)
{
    if (b->n == b->cap)
        grow(b);
    return at(b, b->n++);
}

static struct mz_frag *push_head(struct mz_buf *b)
{
    if (b->n == b->cap)
        grow(b);
    b->first = b->first ? b->first - 1 : b->cap - 1;
    b->n++;
    return head(b);
}

static void pop_head(struct mz_buf *b)
{
    mz_slice_unref(head(b)->slice);
    if (++b->first == b->cap)
        b->first = 0;
    if (--b->n == 0)
        b->first = 0;
}

static void pop_tail(struct mz_buf *b)
{
    mz_slice_unref(at(b, b->n - 1)->slice);
    if (--b->n == 0)
        b->first = 0;
}

/* Free bytes behind the last fragment; none unless the slice is ours alone. */
static inline size_t tail_room(const struct mz_buf *b)
{
    if (b->n == 0)
        return 0;
    const struct mz_frag *f = at(b, b->n - 1);
    const struct mz_slice *s = f->slice;
    return s->refs == 1 && !s->release ? (size_t)(s->mem + s->cap - (f->p + f->n)) : 0;
}

static void push_slice(struct mz_buf *b, size_t cap)
{
    struct mz_slice *s = mz_slice_create(cap);
    *push_tail(b) = (struct mz_frag){ s->mem, 0, s };
}

void mz_buf_append(struct mz_buf *b, const void *p, size_t n)
{
    const char *from = p;
    while (n) {
        size_t room = tail_room(b);
        if (room == 0) {
            push_slice(b, MZ_SLICE_BYTES);
            room = MZ_SLICE_BYTES;
        }
        size_t k = n < room ? n : room;
        struct mz_frag *f = at(b, b->n - 1);
        memcpy(f->p + f->n, from, k);
        f->n += k;
        b->len += k;
        from += k;
        n -= k;
    }
}

void mz_buf_printf(struct mz_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n > 0) {
        size_t room;
        char *p = mz_buf_reserve(b, (size_t)n + 1, &room);
        vsnprintf(p, room, fmt, again);
        mz_buf_commit(b, (size_t)n);
    }
    va_end(again);
}

void mz_buf_append_slice(struct mz_buf *b, struct mz_slice *s, char *p, size_t n)
{
    if (n == 0)
        return;
    s->refs++;
    mz_buf_take_slice(b, s, p, n);
}

void mz_buf_take_slice(struct mz_buf *b, struct mz_slice *take, char *p, size_t n)
{
    *push_tail(b) = (struct mz_frag){ p, n, take };
    b->len += n;
}

void mz_buf_prepend(struct mz_buf *b, const void *p, size_t n)
{
    if (n == 0)
        return;
    struct mz_slice *s = mz_slice_create(n > MZ_SLICE_BYTES ? n : MZ_SLICE_BYTES);
    memcpy(s->mem, p, n);
    *push_head(b) = (struct mz_frag){ s->mem, n, s };
    b->len += n;
}

void mz_buf_move(struct mz_buf *dst, struct mz_buf *src, size_t n)
{
    while (n) {
        struct mz_frag *f = head(src);
        size_t k = f->n < n ? f->n : n;
        if (k <= COPY_MAX && tail_room(dst) >= k) {
            mz_buf_append(dst, f->p, k);
        } else if (k == f->n) {
            *push_tail(dst) = *f; /* the reference moves */
            dst->len += k;
            f->slice = NULL;
        } else {
            mz_buf_append_slice(dst, f->slice, f->p, k);
        }
        src->len -= k;
        n -= k;
        if (k == f->n) {
            pop_head(src);
        } else {
            f->p += k;
            f->n -= k;
        }
    }
    while (src->n && head(src)->n == 0)
        pop_head(src);
}

void mz_buf_copy(struct mz_buf *dst, const struct mz_buf *src)
{
    for (uint32_t i = 0; i < src->n; i++) {
        struct mz_frag *f = at(src, i);
        mz_buf_append_slice(dst, f->slice, f->p, f->n);
    }
}

void mz_buf_drain(struct mz_buf *b, size_t n)
{
    b->len -= n;
    while (b->n) {
        struct mz_frag *f = head(b);
        if (f->n > n) {
            f->p += n;
            f->n -= n;
            return;
        }
        n -= f->n;
        pop_head(b);
        if (n == 0 && b->len)
            return;
    }
}

char *mz_buf_reserve(struct mz_buf *b, size_t n, size_t *out_room)
{
    size_t room = tail_room(b);
    if (room < n) {
        room = n > MZ_SLICE_BYTES ? n : MZ_SLICE_BYTES;
        push_slice(b, room);
    }
    struct mz_frag *f = at(b, b->n - 1);
    *out_room = room;
    return f->p + f->n;
}

void mz_buf_commit(struct mz_buf *b, size_t n)
{
    at(b, b->n - 1)->n += n;
    b->len += n;
}

unsigned mz_buf_reserve_iov(struct mz_buf *b, struct iovec *iov, unsigned max, size_t want)
{
    unsigned k = 0;
    while (b->n && at(b, b->n - 1)->n == 0)
        pop_tail(b);
    size_t got = 0, room = tail_room(b);
    if (room >= IOV_ROOM_MIN) {
        struct mz_frag *f = at(b, b->n - 1);
        iov[k++] = (struct iovec){ f->p + f->n, room };
        got = room;
    }
    while (k < max && (got < want || k == 0)) {
        push_slice(b, MZ_SLICE_BYTES);
        iov[k++] = (struct iovec){ at(b, b->n - 1)->p, MZ_SLICE_BYTES };
        got += MZ_SLICE_BYTES;
    }
    return k;
}

void mz_buf_commit_iov(struct mz_buf *b, size_t n)
{
    /* Places begin at the last fragment that had bytes or at the first empty one behind it. */
    uint32_t i = b->n;
    while (i > 0 && at(b, i - 1)->n == 0)
        i--;
    if (i > 0) {
        struct mz_frag *f = at(b, i - 1);
        const struct mz_slice *s = f->slice;
        size_t room = s->refs == 1 && !s->release ? (size_t)(s->mem + s->cap - (f->p + f->n)) : 0;
        size_t k = room < IOV_ROOM_MIN ? 0
                   : n < room          ? n
                                       : room; /* the rule of mz_buf_reserve_iov() */
        f->n += k;
        b->len += k;
        n -= k;
    }
    for (; i < b->n && n; i++) {
        struct mz_frag *f = at(b, i);
        f->n = n < MZ_SLICE_BYTES ? n : MZ_SLICE_BYTES;
        b->len += f->n;
        n -= f->n;
    }
    while (b->n && at(b, b->n - 1)->n == 0)
        pop_tail(b);
}

unsigned mz_buf_iov(const struct mz_buf *b, struct iovec *iov, unsigned max)
{
    unsigned k = 0;
    for (uint32_t i = 0; i < b->n && k < max; i++) {
        const struct mz_frag *f = at(b, i);
        if (f->n)
            iov[k++] = (struct iovec){ f->p, f->n };
    }
    return k;
}

struct mz_str mz_buf_first_filled(const struct mz_buf *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        const struct mz_frag *f = at(b, i);
        if (f->n)
            return (struct mz_str){ f->p, f->n };
    }
    return (struct mz_str){ NULL, 0 };
}

struct mz_str mz_buf_linearize(struct mz_buf *b, size_t n)
{
    struct mz_str first = mz_buf_first(b);
    if (first.n >= n)
        return (struct mz_str){ first.p, n };
    struct mz_slice *s = mz_slice_create(n > MZ_SLICE_BYTES ? n + n / 2 : MZ_SLICE_BYTES);
    mz_buf_copyout(b, 0, s->mem, n);
    mz_buf_drain(b, n);
    *push_head(b) = (struct mz_frag){ s->mem, n, s };
    b->len += n;
    return (struct mz_str){ s->mem, n };
}

size_t mz_buf_copyout(const struct mz_buf *b, size_t from, void *out, size_t n)
{
    char *to = out;
    for (uint32_t i = 0; i < b->n && n; i++) {
        const struct mz_frag *f = at(b, i);
        if (from >= f->n) {
            from -= f->n;
            continue;
        }
        size_t k = f->n - from < n ? f->n - from : n;
        memcpy(to, f->p + from, k);
        to += k;
        n -= k;
        from = 0;
    }
    return (size_t)(to - (char *)out);
}

ptrdiff_t mz_buf_find(const struct mz_buf *b, char c, size_t from)
{
    size_t base = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct mz_frag *f = at(b, i);
        size_t skip = from > base ? from - base : 0;
        const char *hit = skip < f->n ? memchr(f->p + skip, c, f->n - skip) : NULL;
        if (hit)
            return (ptrdiff_t)(base + (size_t)(hit - f->p));
        base += f->n;
    }
    return -1;
}

void mz_buf_compact(struct mz_buf *b)
{
    if (b->n != 1 || b->len > MZ_SLICE_BYTES / 8)
        return;
    struct mz_frag *f = head(b);
    if (f->slice->release || f->slice->cap < MZ_SLICE_BYTES)
        return;
    struct mz_slice *s = mz_slice_create((f->n + 255) & ~(size_t)255);
    memcpy(s->mem, f->p, f->n);
    mz_slice_unref(f->slice);
    *f = (struct mz_frag){ s->mem, f->n, s };
}
