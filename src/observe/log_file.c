#include "observe/log_file.h"
#include "base/alloc.h"
#include "observe/access_log.h"
#include "stats/stats.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <protobuf-c/protobuf-c.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

enum { RING_BYTES = 128 << 10, FLUSH_BYTES = 64 << 10 };

struct ring { /* one thread fills, the writer empties; positions only grow */
    uint64_t head, tail;
    char mem[RING_BYTES];
};
struct mz_log_file {
    struct mz_log_files *all;
    struct mz_log_file
        *next; /* files stay in the list until the end; one that nobody uses has fd -1 */
    char *path;
    unsigned users;   /* main thread */
    bool open_wanted; /* main thread writes, writer reads: closes and opens by it */
    bool reopen;      /* set by the main thread, taken by the writer */
    int fd;           /* writer's, once it runs; made by the main thread for a new file */
    bool owns_fd;
    int stuck;           /* slot whose line is half in the file; -1 none */
    struct ring **rings; /* one per slot; each made by its thread */
};
struct mz_log_files {
    struct mz_log_file *first;
    unsigned slots;
    int flush_ms;
    int wake; /* eventfd */
    bool stop;
    pthread_t writer;
    struct mz_scope *scope;
    uint64_t completed, failed, by_timer, reopen_failed,
        drained; /* of the writer, not yet in the statistics */
    bool uncounted;
    const struct mz_access_logger_type *const *loggers; /* of other folders */
    size_t n_loggers;
    void *loggers_env;
};

enum {
    FLUSHED_BY_TIMER,
    REOPEN_FAILED,
    WRITE_BUFFERED,
    WRITE_COMPLETED,
    WRITE_FAILED,
    WRITE_TOTAL_BUFFERED
};
static const struct mz_stat_def defs[] = {
    { "flushed_by_timer", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "reopen_failed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "write_buffered", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "write_completed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "write_failed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "write_total_buffered", MZ_GAUGE, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind kind = { "filesystem", defs, MZ_COUNT(defs) };

#define LOAD(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define ADD(p, v)   __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)

/* ---- a thread's side ---- */

static void wake(struct mz_log_files *f)
{
    uint64_t one = 1;
    (void)!write(f->wake, &one, sizeof(one)); /* full means that it is awake */
}

static void ring_put(struct ring *r, uint64_t at, const char *p, size_t n)
{
    size_t from = at % RING_BYTES;
    size_t first = n < RING_BYTES - from ? n : RING_BYTES - from;
    memcpy(r->mem + from, p, first);
    memcpy(r->mem, p + first, n - first);
}

static __attribute__((noinline)) struct ring *ring_create(struct mz_log_file *file)
{
    struct ring *r = mz_alloc(MZ_MEM_LOG, sizeof(*r));
    r->head = r->tail = 0;
    STORE(&file->rings[mz_stats_slot], r);
    return r;
}

static inline struct ring *ring_here(struct mz_log_file *file)
{
    struct ring *r = file->rings[mz_stats_slot];
    return MZ_LIKELY(r != NULL) ? r : ring_create(file);
}

/* The byte before the tail stays as it is: the writer asks it whether what it wrote ends with a line. */
static inline size_t ring_left(struct ring *r)
{
    return RING_BYTES - 1 - (size_t)(r->head - LOAD(&r->tail));
}

/* A line of @n bytes is in the ring: from now on the writer may take it. */
static inline void ring_pass(struct mz_log_file *file, struct ring *r, size_t n)
{
    struct mz_log_files *f = file->all;
    uint64_t waiting = r->head - LOAD(&r->tail);
    STORE(&r->head, r->head + n);
    mz_count(f->scope, WRITE_BUFFERED, 1);
    mz_gauge_add(f->scope, WRITE_TOTAL_BUFFERED, (int64_t)n);
    if (MZ_UNLIKELY(waiting < FLUSH_BYTES && waiting + n >= FLUSH_BYTES))
        wake(f);
}

static inline void writer_count(struct mz_log_files *f)
{
    if (MZ_UNLIKELY(__atomic_load_n(&f->uncounted, __ATOMIC_RELAXED)))
        mz_log_files_count(f);
}

void mz_log_file_write(struct mz_log_file *file, struct mz_buf *line)
{
    struct ring *r = ring_here(file);
    size_t n = mz_buf_len(line);
    uint64_t at = r->head;
    if (MZ_UNLIKELY(n > ring_left(r))) {
        mz_count(file->all->scope, WRITE_FAILED, 1);
    } else {
        for (struct mz_str part; (part = mz_buf_first(line)).n; mz_buf_drain(line, part.n)) {
            ring_put(r, at, part.p, part.n);
            at += part.n;
        }
        ring_pass(file, r, n);
    }
    writer_count(file->all);
}

char *mz_log_file_room(struct mz_log_file *file, size_t *out_room)
{
    struct ring *r = ring_here(file);
    size_t from = r->head % RING_BYTES, to_end = RING_BYTES - from, left = ring_left(r);
    *out_room = left < to_end ? left : to_end;
    return r->mem + from;
}

void mz_log_file_wrote(struct mz_log_file *file, size_t n)
{
    ring_pass(file, ring_here(file), n);
    writer_count(file->all);
}

static uint64_t take(uint64_t *n)
{
    return __atomic_exchange_n(n, 0, __ATOMIC_RELAXED);
}

void mz_log_files_count(struct mz_log_files *f)
{
    STORE(&f->uncounted, false);
    mz_count(f->scope, WRITE_COMPLETED, take(&f->completed));
    mz_count(f->scope, WRITE_FAILED, take(&f->failed));
    mz_count(f->scope, FLUSHED_BY_TIMER, take(&f->by_timer));
    mz_count(f->scope, REOPEN_FAILED, take(&f->reopen_failed));
    mz_gauge_add(f->scope, WRITE_TOTAL_BUFFERED, -(int64_t)take(&f->drained));
}

/* ---- the writer's side ---- */

/* Writes what @r holds. False when the file takes no more now; what is left waits. */
static bool ring_drain(struct mz_log_file *file, struct ring *r)
{
    uint64_t tail = r->tail, head = LOAD(&r->head);
    while (tail != head) {
        size_t from = tail % RING_BYTES, n = (size_t)(head - tail);
        size_t first = n < RING_BYTES - from ? n : RING_BYTES - from;
        struct iovec iov[2] = { { r->mem + from, first }, { r->mem, n - first } };
        ssize_t wrote = writev(file->fd, iov, n > first ? 2 : 1);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            ADD(&file->all->failed, 1);
            return false;
        }
        tail += (uint64_t)wrote;
        STORE(&r->tail, tail);
        ADD(&file->all->completed, 1);
        ADD(&file->all->drained, (uint64_t)wrote);
    }
    return true;
}

static bool
ends_whole(const struct ring *r) /* is the last byte that was written the end of a line? */
{
    return r->tail == 0 || r->mem[(r->tail - 1) % RING_BYTES] == '\n';
}

static bool slot_drain(struct mz_log_file *file, int slot)
{
    struct ring *r = LOAD(&file->rings[slot]);
    if (!r || r->tail == LOAD(&r->head))
        return true;
    bool done = ring_drain(file, r);
    file->stuck = done || ends_whole(r) ? -1 : slot;
    return done;
}

static void file_drain(struct mz_log_file *file)
{
    if (file->fd < 0 || (file->stuck >= 0 && !slot_drain(file, file->stuck)))
        return; /* a line that is half written goes before any other */
    for (unsigned i = 0; i < file->all->slots; i++)
        if (!slot_drain(file, (int)i))
            return;
}

static void fd_close(struct mz_log_file *file)
{
    if (file->owns_fd && file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

static int path_open(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static void file_reopen(struct mz_log_file *file)
{
    int fd = file->owns_fd ? path_open(file->path) : -1;
    if (fd < 0) {
        ADD(&file->all->reopen_failed, file->owns_fd ? 1u : 0u); /* the old one stays in use */
        return;
    }
    fd_close(file);
    file->fd = fd;
    file->stuck = -1;
}

static void file_turn(struct mz_log_file *file, bool timer)
{
    file_drain(file);
    if (__atomic_exchange_n(&file->reopen, false, __ATOMIC_ACQ_REL))
        file_reopen(file);
    if (!LOAD(&file->open_wanted))
        fd_close(file);
    else if (timer)
        ADD(&file->all->by_timer, 1);
}

static void *writer_run(void *arg)
{
    struct mz_log_files *f = arg;
    for (bool stop = false; !stop;) {
        struct pollfd p = { .fd = f->wake, .events = POLLIN };
        int ready = poll(&p, 1, f->flush_ms);
        uint64_t count;
        (void)!read(f->wake, &count, sizeof(count)); /* not blocking; its number says nothing */
        stop = LOAD(&f->stop);
        for (struct mz_log_file *file = LOAD(&f->first); file; file = file->next)
            file_turn(file, ready == 0);
        STORE(&f->uncounted, true);
    }
    return NULL;
}

/* ---- the main thread's side ---- */

struct mz_log_files *mz_log_files_create(struct mz_stats *st, unsigned slots, uint32_t flush_ms)
{
    struct mz_log_files *f = mz_new0(MZ_MEM_LOG, struct mz_log_files);
    f->slots = slots;
    f->flush_ms = flush_ms == 0 ? 1 : flush_ms > INT32_MAX ? INT32_MAX : (int)flush_ms;
    f->scope = mz_scope_create(st, &kind, MZ_STR("filesystem."));
    f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return f;
}

void mz_log_files_set_loggers(struct mz_log_files *f, const struct mz_access_logger_type *const *v,
                              size_t n, void *env)
{
    f->loggers = v;
    f->n_loggers = n;
    f->loggers_env = env;
}

const struct mz_access_logger_type *mz_log_files_logger(const struct mz_log_files *f,
                                                        struct mz_str config_type, void **out_env)
{
    *out_env = f->loggers_env;
    for (size_t i = 0; i < f->n_loggers; i++)
        if (mz_str_eq(config_type, mz_str_c(f->loggers[i]->config->name)))
            return f->loggers[i];
    return NULL;
}

/* The first file starts the writer, so that a process without access logs has no thread for them. */
static bool writer_start(struct mz_log_files *f, struct mz_err *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&f->writer, NULL, writer_run, f);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e == 0)
        (void)pthread_setname_np(f->writer, "log_writer");
    return e == 0 || mz_err_set(err, "cannot start the log writer: error %d", e);
}

static struct mz_log_file *file_find(struct mz_log_files *f, struct mz_str path)
{
    for (struct mz_log_file *file = f->first; file; file = file->next)
        if (mz_str_eq(mz_str_c(file->path), path))
            return file;
    return NULL;
}

static void file_free(struct mz_log_file *file)
{
    fd_close(file);
    for (unsigned i = 0; i < file->all->slots; i++)
        mz_free(MZ_MEM_LOG, file->rings[i]);
    mz_free(MZ_MEM_LOG, file->rings);
    mz_free(MZ_MEM_LOG, file->path);
    mz_free(MZ_MEM_LOG, file);
}

static int fd_of_path(struct mz_str path, const char *name, bool *out_owns)
{
    *out_owns = false;
    if (mz_str_eq(path, MZ_STR("/dev/stdout")))
        return STDOUT_FILENO;
    if (mz_str_eq(path, MZ_STR("/dev/stderr")))
        return STDERR_FILENO;
    *out_owns = true;
    return path_open(name);
}

static struct mz_log_file *file_create(struct mz_log_files *f, struct mz_str path,
                                       struct mz_err *err)
{
    struct mz_log_file *file = mz_new0(MZ_MEM_LOG, struct mz_log_file);
    file->all = f;
    file->stuck = -1;
    file->open_wanted = true;
    file->rings = mz_newn0(MZ_MEM_LOG, struct ring *, f->slots);
    file->path = mz_strndup(MZ_MEM_LOG, path.p, path.n);
    file->fd = fd_of_path(path, file->path, &file->owns_fd);
    bool ok = file->fd >= 0 || mz_err_set(err, "unable to open file '%s': %m", file->path);
    file->next = f->first;
    bool starts = !f->first;
    if (ok)
        STORE(&f->first, file);
    if (ok && starts && !writer_start(f, err)) {
        f->first = NULL;
        ok = false;
    }
    if (ok)
        return file;
    file_free(file);
    return NULL;
}

struct mz_log_file *mz_log_file_open(struct mz_log_files *f, struct mz_str path, struct mz_err *err)
{
    struct mz_log_file *file = file_find(f, path);
    if (!file)
        file = file_create(f, path, err);
    if (!file)
        return NULL;
    if (file->users++ == 0 &&
        !LOAD(&file->open_wanted)) { /* used again after having been given up */
        STORE(&file->open_wanted, true);
        STORE(&file->reopen, true);
        wake(f);
    }
    return file;
}

void mz_log_file_close(struct mz_log_file *file)
{
    if (!file || --file->users)
        return;
    STORE(&file->open_wanted, false);
    wake(file->all);
}

void mz_log_files_reopen(struct mz_log_files *f)
{
    for (struct mz_log_file *file = f->first; file; file = file->next)
        if (file->users)
            STORE(&file->reopen, true);
    wake(f);
}

void mz_log_files_destroy(struct mz_log_files *f)
{
    if (!f)
        return;
    STORE(&f->stop, true);
    wake(f);
    if (f->first)
        pthread_join(f->writer, NULL);
    mz_log_files_count(f);
    for (struct mz_log_file *file = f->first, *next; file; file = next) {
        next = file->next;
        file_free(file);
    }
    close(f->wake);
    mz_scope_unref(f->scope);
    mz_free(MZ_MEM_LOG, f);
}
