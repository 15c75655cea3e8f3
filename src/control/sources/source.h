#ifndef MZ_CONTROL_SOURCES_SOURCE_H
#define MZ_CONTROL_SOURCES_SOURCE_H
/*
 * Where documents come from (C1): a directory today; Kubernetes and Consul take their seats here. A source feeds the store that it
 * was made with, on the main thread, and commits each time what it put is consistent.
 */
#include "control/sources/store.h"
#include "event/loop.h"

struct mz_problem {
    enum mz_level level;
    struct mz_str file; /* "" not from a file */
    uint32_t line;      /* 0 unknown */
    struct mz_str key;  /* the document, "" unknown */
    struct mz_str text;
};
struct mz_source;
struct mz_source_ops {
    const char *name; /* "directory" */
    /* Begins to feed. False: it can never work (err says why). What may heal is told as a problem instead. */
    bool (*start)(struct mz_source *s, struct mz_err *err);
    bool (*synced)(const struct mz_source *s); /* everything that was there at the start has been committed */
    void (*refresh)(struct mz_source *s); /* what has changed by now is read and committed before this returns */
    /* What there is to say about its documents now, in a stable order. */
    void (*problems)(const struct mz_source *s, void (*each)(void *arg, const struct mz_problem *p), void *arg);
    void (*destroy)(struct mz_source *s);
};
struct mz_source {
    const struct mz_source_ops *ops;
    uint64_t since_us; /* while it commits: when the first of these changes was noticed, monotonic; 0: unknown */
};

enum { MZ_DIRECTORY_MAX = 16 };
struct mz_directory_opts {
    const char *const *dirs; /* every *.yaml, *.yml and *.json in them and below; names that begin with '.' are skipped */
    size_t dirs_n;           /* 1..MZ_DIRECTORY_MAX; none may lie in another */
    const char *mesh_file; /* NULL: mesh.yaml in a directory, the first that has it */
    bool watch;            /* inotify; else read once */
    void (*told)(void *arg); /* NULL; after a change was read: problems() may say something else than before */
    void *arg;
    uint32_t debounce_ms;  /* quiet time before a change is read; 0: 100. Waits at most ten times as long */
};
/*
 * A broken document is a problem; the last good version of it stays, and where one cannot be read far enough to be named, so does
 * everything that its file held. Of one key in two files the first counts, by directory, path and line. @l may be NULL without watch.
 */
struct mz_source *mz_directory_create(struct mz_loop *l, struct mz_store *s, const struct mz_directory_opts *o);
/* Whether documents in @path would be read with those of @dir: it is there or below, and no name between begins with '.'. */
bool mz_directory_reads(const char *dir, const char *path);
#endif
