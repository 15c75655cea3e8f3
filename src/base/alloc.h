#ifndef MZ_BASE_ALLOC_H
#define MZ_BASE_ALLOC_H
/*
 * Memory counted by type (design.md 5). Out of memory aborts with a message, so no caller checks for NULL; a size that a
 * peer controls is checked by the caller before. Any thread; the counts are per thread and summed when read.
 */
#include <stddef.h>
#include <stdint.h>

enum mz_mem {
    MZ_MEM_MISC,
    MZ_MEM_CONFIG,   /* runtime objects made of configuration, and its bytes kept for /config_dump */
    MZ_MEM_LOOP,     /* loops, posts, timers that are not embedded */
    MZ_MEM_BUFFER,   /* slices */
    MZ_MEM_CONN,     /* connections, their codecs and filter chains */
    MZ_MEM_STREAM,   /* stream arenas */
    MZ_MEM_UPSTREAM, /* clusters, hosts, pools */
    MZ_MEM_STATS,
    MZ_MEM_LOG, /* access logs, decision records */
    MZ_MEM_ADMIN,
    MZ_MEM_TLS,
    MZ_MEM_XDS,
    MZ_MEM__COUNT
};
const char *mz_mem_name(enum mz_mem type); /* "stream" ... */

/* Bytes are what malloc really set aside. free, realloc name the type that the allocation named. */
void *mz_alloc(enum mz_mem type, size_t n);                 /* not zeroed */
void *mz_alloc0(enum mz_mem type, size_t n);                /* zeroed */
void *mz_realloc(enum mz_mem type, void *p, size_t n);      /* p may be NULL; new bytes are not zeroed */
char *mz_strndup(enum mz_mem type, const char *s, size_t n); /* NUL-terminated copy */
void mz_free(enum mz_mem type, void *p);                    /* NULL is fine */
#define mz_new0(type, T)       ((T *)mz_alloc0((type), sizeof(T)))
#define mz_newn0(type, T, n)   ((T *)mz_alloc0((type), mz_mul((n), sizeof(T))))
/* Memory from elsewhere (mmap) is counted, too; negative: it was given back. */
void mz_mem_note(enum mz_mem type, int64_t bytes, int64_t objects);
void mz_mem_thread_end(void); /* the calling thread's last word: its counts stay in the sums, and are for another to go on with */
size_t mz_mul(size_t a, size_t b); /* aborts on overflow */

struct mz_mem_count {
    int64_t bytes, objects;
};
size_t mz_mem_resident_bytes(void); /* of the whole process, as the kernel counts; 0: not known */
void mz_mem_counts(struct mz_mem_count out_counts[MZ_MEM__COUNT]); /* sum over all threads, live or ended */

#define MZ_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MZ_CONTAINER(p, T, member) ((T *)(void *)((char *)(p) - offsetof(T, member)))
#define MZ_LIKELY(x)   __builtin_expect(!!(x), 1)
#define MZ_UNLIKELY(x) __builtin_expect(!!(x), 0)
/* For an array of a hot path that is written before it is read: not even -ftrivial-auto-var-init=zero touches it. */
#if defined(__has_attribute) && __has_attribute(uninitialized)
#define MZ_UNINIT __attribute__((uninitialized))
#else
#define MZ_UNINIT
#endif
#endif
