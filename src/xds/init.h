#ifndef MZ_XDS_INIT_H
#define MZ_XDS_INIT_H
/*
 * What must be there before something may serve (X3): targets of a manager. The server has one, each listener that warms has
 * one of its own. Main thread.
 */
#include "base/list.h"
#include "base/str.h"

struct mz_buf;
struct mz_init { /* embedded */
    struct mz_list targets;
    unsigned waiting;
    enum { MZ_INIT_IDLE, MZ_INIT_RUNNING, MZ_INIT_DONE } state;
    void (*done)(void *arg);
    void *arg;
};
struct mz_init_target { /* embedded in what is waited for */
    struct mz_list link;
    struct mz_init *init; /* NULL: of none (any more) */
    struct mz_str name;   /* "target LDS", for /init_dump, several parted by newlines; lives as long as the target */
    void (*start)(void *arg); /* runs once, when the manager starts; may call mz_init_ready() at once */
    void *arg;
    bool ready, started;
};
void mz_init_init(struct mz_init *i);
void mz_init_fini(struct mz_init *i); /* its targets are of nobody then */
/* Starts @t at once where the manager runs; one that is done starts it, too, and waits for nothing. */
void mz_init_add(struct mz_init *i, struct mz_init_target *t);
void mz_init_start(struct mz_init *i, void (*done)(void *arg), void *arg); /* done may run from inside */
void mz_init_ready(struct mz_init_target *t);  /* again: nothing */
void mz_init_remove(struct mz_init_target *t); /* goes away: as ready, never called back */
/* One thing that several wait for: a subscription that they share. It begins when the first of them does. */
struct mz_init_shared { /* embedded */
    struct mz_list waiting; /* struct mz_init_wait */
    bool started, ready;
    void (*start)(void *arg); /* once; may call mz_init_shared_ready() at once */
    void *arg;
};
struct mz_init_wait { /* embedded in who waits */
    struct mz_list link;
    struct mz_init_target target;
    struct mz_init_shared *shared; /* NULL: for nothing */
};
void mz_init_shared_init(struct mz_init_shared *s, void (*begin)(void *arg), void *arg);
void mz_init_shared_start(struct mz_init_shared *s); /* without waiting for it */
void mz_init_shared_ready(struct mz_init_shared *s); /* again: nothing */
/* @init NULL: begins at once, nobody is kept waiting. @name as of a target. */
void mz_init_wait(struct mz_init_wait *w, struct mz_init_shared *s, struct mz_str name, struct mz_init *init);
void mz_init_wait_end(struct mz_init_wait *w); /* any thread once it is over */
void mz_init_dump(const struct mz_init *i, void (*fn)(void *arg, struct mz_str name), void *arg); /* those not ready */
#endif
