#include "http/h2/h2_priv.h"

#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#define ROOT(p, n)                                                                                 \
    __lsan_register_root_region(p, n) /* what a session owns is reached through its slot alone */
#define UNROOT(p, n) __lsan_unregister_root_region(p, n)
enum { GUARD = 1, HOT = 0 };
#else
#define ROOT(p, n)
#define UNROOT(p, n)
enum { GUARD = 0, HOT = 16 }; /* free slots of a thread whose pages stay */
#endif

/*
 * The large pieces of a session (its struct, the map of its streams, the rings of both HPACK tables: 9 KiB, hardly a tenth of it
 * not zero when no stream is open) lie in whole pages. While the connection rests, what is not zero waits in a small block and
 * the pages are the kernel's; the session finds everything at its old address again. What is allocated later, the entries of the
 * HPACK tables above all, is not touched.
 */
#define PAGE        4096
#define SLOT_BYTES  (3 * PAGE)
#define CHUNK_SLOTS 64
#define PIECE_MIN   512 /* bytes; smaller ones may be handed from session to session (mem.c) */
#define PIECE_ALIGN 64
#define GROUP       64 /* words of one mask */
#define GROUPS      (SLOT_BYTES / 8 / GROUP)

struct packed {
    uint64_t mask[GROUPS]; /* of the words that are not zero */
    uint64_t words[];
};
struct h2_slot {
    struct h2_slot *next; /* of the free ones */
    char *mem;
    size_t used;           /* bytes from the begin */
    struct packed *packed; /* NULL: the pages have it */
    bool cold;             /* free: all zeros, and the kernel's */
};
struct chunk {
    struct chunk *next;
    char *mem;
    struct h2_slot slots[CHUNK_SLOTS];
};
static _Thread_local struct {
    struct chunk *chunks;
    struct h2_slot *free;
    uint32_t taken;
    int hot; /* signed: HOT may be 0 */
} pool;

/* Costs addresses only. */
static bool chunk_add(void)
{
    const size_t bytes = (size_t)CHUNK_SLOTS * SLOT_BYTES;
    if (sysconf(_SC_PAGESIZE) != PAGE)
        return false;
    char *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem == MAP_FAILED)
        return false;
    (void)madvise(mem, bytes, MADV_NOHUGEPAGE); /* kernels without them refuse */
    ROOT(mem, bytes);
    struct chunk *k = mz_new0(MZ_MEM_CONN, struct chunk);
    k->mem = mem;
    k->next = pool.chunks;
    pool.chunks = k;
    for (size_t i = CHUNK_SLOTS; i-- > 0;) {
        k->slots[i] =
            (struct h2_slot){ .next = pool.free, .mem = mem + i * SLOT_BYTES, .cold = true };
        pool.free = &k->slots[i];
    }
    return true;
}

struct h2_slot *h2_slot_take(void)
{
    if (!pool.free && !chunk_add())
        return NULL;
    struct h2_slot *s = pool.free;
    pool.free = s->next;
    pool.taken++;
    pool.hot -= !s->cold;
    s->used = 0;
    mz_mem_note(MZ_MEM_CONN, SLOT_BYTES, 1);
    return s;
}

static void chunks_free(void)
{
    while (pool.chunks) {
        struct chunk *k = pool.chunks;
        pool.chunks = k->next;
        UNROOT(k->mem, (size_t)CHUNK_SLOTS * SLOT_BYTES);
        (void)munmap(k->mem, (size_t)CHUNK_SLOTS * SLOT_BYTES);
        mz_free(MZ_MEM_CONN, k);
    }
    pool.free = NULL;
    pool.hot = 0;
}

void h2_slot_drop(struct h2_slot *s)
{
    if (!s)
        return;
    MZ_ASSERT(!s->packed);
    mz_mem_note(MZ_MEM_CONN, -(int64_t)SLOT_BYTES, -1);
    s->cold = pool.hot >= HOT && madvise(s->mem, SLOT_BYTES, MADV_DONTNEED) == 0;
    if (!s->cold)
        pool.hot++;
    s->next = pool.free;
    pool.free = s;
    if (--pool.taken == 0)
        chunks_free();
}

void *h2_slot_alloc(struct h2_slot *s, size_t n)
{
    size_t room = (n + PIECE_ALIGN - 1) & ~(size_t)(PIECE_ALIGN - 1);
    if (!s || n < PIECE_MIN || n > SLOT_BYTES - s->used || room > SLOT_BYTES - s->used)
        return NULL;
    char *p = s->mem + s->used;
    s->used += room;
    return memset(p, 0, room);
}

size_t h2_slot_has(const struct h2_slot *s, const void *p)
{
    const char *at = p;
    return s && at >= s->mem && at < s->mem + s->used ? (size_t)(s->mem + s->used - at) : 0;
}

bool h2_slot_pack(struct h2_slot *s)
{
    uint64_t mask[GROUPS] = { 0 };
    size_t n = 0, words = s->used / sizeof(uint64_t);
    const uint64_t *from = (const uint64_t *)(const void *)s->mem;
    for (size_t i = 0; i < words; i++) {
        mask[i / GROUP] |= (uint64_t)(from[i] != 0) << i % GROUP;
        n += from[i] != 0;
    }
    struct packed *p = mz_alloc(MZ_MEM_CONN, sizeof(*p) + n * sizeof(p->words[0]));
    memcpy(p->mask, mask, sizeof(mask));
    n = 0;
    for (size_t i = 0; i < words; i++)
        if (from[i])
            p->words[n++] = from[i];
    if (madvise(s->mem, SLOT_BYTES, MADV_DONTNEED) != 0) { /* locked in memory */
        mz_free(MZ_MEM_CONN, p);
        return false;
    }
    if (GUARD)
        (void)mprotect(s->mem, SLOT_BYTES, PROT_NONE);
    mz_mem_note(MZ_MEM_CONN, -(int64_t)SLOT_BYTES, -1);
    s->packed = p;
    return true;
}

void h2_slot_unpack(struct h2_slot *s)
{
    struct packed *p = s->packed;
    const uint64_t *from = p->words;
    uint64_t *to = (uint64_t *)(void *)s->mem;
    if (GUARD)
        (void)mprotect(s->mem, SLOT_BYTES, PROT_READ | PROT_WRITE);
    for (size_t g = 0; g < GROUPS; g++)
        for (uint64_t m = p->mask[g]; m; m &= m - 1)
            to[g * GROUP + (size_t)__builtin_ctzll(m)] = *from++;
    mz_mem_note(MZ_MEM_CONN, SLOT_BYTES, 1);
    mz_free(MZ_MEM_CONN, p);
    s->packed = NULL;
}
