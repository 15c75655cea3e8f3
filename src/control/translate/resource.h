#ifndef MZ_CONTROL_TRANSLATE_RESOURCE_H
#define MZ_CONTROL_TRANSLATE_RESOURCE_H
/*
 * Finished resources: bytes that any number of answers share, and the cache that finds them by what they were made of. Main
 * thread.
 */
#include "base/buf.h"
#include "base/map.h"
#include "proto/mapper.h"

struct mz_set; /* set.h */
struct mz_out { /* immutable, counted */
    struct mz_slice slice; /* counts, for buffers that hold its bytes, too */
    struct mz_str name;
    struct mz_str bytes; /* packed message; of one in parts what stands before them */
    uint64_t version;    /* of the content: the same in every process */
    const struct mz_set *parts; /* NULL: none. Each is one more of a repeated field (MZ_OUT_PART) */
    struct mz_str tail;         /* what stands behind them */
    size_t size;                /* of all together */
};
#define MZ_OUT_PART 2 /* RouteConfiguration.virtual_hosts */
struct mz_out *mz_out_create(struct mz_str name, const ProtobufCMessage *m); /* refs 1 */
/* Large ones share what they have in common with others. Takes the reference to @parts. */
struct mz_out *mz_out_of_parts(struct mz_str name, struct mz_str head, const struct mz_set *parts, struct mz_str tail);
struct mz_str mz_out_bytes(const struct mz_out *o, struct mz_arena *a); /* in one piece; in @a where it is in parts */
struct mz_out *mz_out_of_bytes(struct mz_str name, struct mz_str bytes); /* copied; of a packed message */
struct mz_out *mz_out_ref(const struct mz_out *o);
void mz_out_unref(const struct mz_out *o); /* NULL is fine */

/* What a resource is made of, as text and numbers in a fixed order; not kept beyond MZ_KEY_BYTES. */
#define MZ_KEY_BYTES 1024
struct mz_key {
    size_t n; /* above the room: too long, and never found */
    char bytes[MZ_KEY_BYTES];
};
void mz_key_init(struct mz_key *k, char kind);
void mz_key_str(struct mz_key *k, struct mz_str s);
void mz_key_u64(struct mz_key *k, uint64_t v);

struct mz_cache;
struct mz_cache *mz_cache_create(void);
void mz_cache_destroy(struct mz_cache *c);
struct mz_out *mz_cache_get(struct mz_cache *c, const struct mz_key *k); /* a reference, or NULL */
void mz_cache_put(struct mz_cache *c, const struct mz_key *k, struct mz_out *o); /* takes a reference of its own */
void mz_cache_age(struct mz_cache *c); /* a new model. Where much came: what nobody else holds or asked for in the last four goes */
struct mz_cache_counts {
    uint64_t hits, misses;
    size_t entries, bytes;
};
struct mz_cache_counts mz_cache_counts(const struct mz_cache *c);
#endif
