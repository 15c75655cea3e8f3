#ifndef MZ_RUNTIME_RUNTIME_H
#define MZ_RUNTIME_RUNTIME_H
/*
 * Layered runtime (P7): static, disk and admin layers merged to one immutable snapshot; each thread holds its own reference,
 * swapped by post. Keys are dotted paths. Look-ups are for the request path: one hash look-up, none when nothing is set.
 */
#include "base/err.h"
#include "base/str.h"
#include "event/loop.h"
#include "stats/stats.h"

struct mz_runtime;      /* snapshot */
struct mz_runtime_store; /* main thread: the layers */
const struct mz_runtime *mz_runtime_here(void); /* this thread's snapshot; never NULL (empty before start) */

bool mz_runtime_empty(const struct mz_runtime *r); /* no key at all: nothing to look up */
bool mz_runtime_str(const struct mz_runtime *r, struct mz_str key, struct mz_str *out_value);
uint64_t mz_runtime_u64(const struct mz_runtime *r, struct mz_str key, uint64_t def);
double mz_runtime_double(const struct mz_runtime *r, struct mz_str key, double def);
bool mz_runtime_bool(const struct mz_runtime *r, struct mz_str key, bool def);
/* Fraction: is @random % denominator < numerator? The key's value (number: percent of the default's denominator; or a
 * FractionalPercent struct) replaces the default, as RuntimeFractionalPercent. An empty key: the default alone. */
struct mz_fraction {
    struct mz_str key;
    uint32_t numerator, denominator; /* 100, 10000, 1000000 */
};
bool mz_runtime_fraction(const struct mz_runtime *r, const struct mz_fraction *f, uint64_t random);

struct Envoy__Config__Bootstrap__V3__LayeredRuntime;
/* Disk layers are read here; they are watched (a symlink moved into place, as Envoy) on the loop added first: main's. */
struct mz_runtime_store *mz_runtime_store_create(struct mz_stats *st, const struct Envoy__Config__Bootstrap__V3__LayeredRuntime *m,
                                                 struct mz_str service_cluster, struct mz_err *err);
/* Layers by subscription (RTDS): of the message of create(), which must still be there; targets of @init. */
struct mz_xds;
struct mz_init;
bool mz_runtime_store_subscribe(struct mz_runtime_store *s, struct mz_xds *x, struct mz_init *init, struct mz_err *err);
void mz_runtime_store_unsubscribe(struct mz_runtime_store *s); /* before @x and @init go; NULL is fine */
void mz_runtime_store_destroy(struct mz_runtime_store *s); /* when the threads' loops no longer run */
void mz_runtime_store_add_thread(struct mz_runtime_store *s, struct mz_loop *l); /* gets each new snapshot by post */
bool mz_runtime_store_modify(struct mz_runtime_store *s, const struct mz_str *keys, const struct mz_str *values, size_t n,
                             struct mz_err *err); /* admin layer; "" deletes; error without an admin layer */
struct mz_buf;
void mz_runtime_store_dump(const struct mz_runtime_store *s, struct mz_buf *out); /* /runtime */
#endif
