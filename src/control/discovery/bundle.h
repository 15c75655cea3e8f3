#ifndef MZ_CONTROL_DISCOVERY_BUNDLE_H
#define MZ_CONTROL_DISCOVERY_BUNDLE_H
/*
 * Steps: from what a client has of a type to what it is to have. Made once for all clients that take the same one, and so what waits
 * in a thousand queues is one piece of memory. Main thread.
 */
#include "control/translate/set.h"
#include "control/translate/translate.h"

struct mz_bundles;
struct mz_bundles *mz_bundles_create(struct mz_sets *s); /* borrows */
void mz_bundles_destroy(struct mz_bundles *b); /* NULL is fine; what clients still hold stays */

enum mz_step_mode {
    MZ_STEP_DELTA,
    MZ_STEP_SOME,  /* state of the world, of a type where what is left out stays */
    MZ_STEP_WHOLE, /* ... where it goes */
    MZ_STEP_SECRET = 4, /* with one of those: shared only where the resources are the very same ones. Names are what clients make of
                         * them, and so are hashes: nobody gets a key by hitting the hash of what another has */
};
struct mz_step {
    const struct mz_out *const *changed; /* by name: those that are new or others */
    size_t changed_n;
    const struct mz_str *removed;
    size_t removed_n;
    struct mz_buf resources; /* the field of the response, packed; to be copied (mz_buf_copy) */
};
/* @mode: enum mz_step_mode; @url: "type.googleapis.com/..."; @from NULL: nothing. @first: it waits for an answer: what does not exist is among the removed.
 * Resources of version 0 are names only. Borrowed until the next call that makes or trims. */
const struct mz_step *mz_bundles_step(struct mz_bundles *b, unsigned mode, struct mz_str url, const struct mz_set *from,
                                      const struct mz_set *to, bool first);
/* What those get who have @asked of a type by name, for all of one kind (@whom); kept until the next trim. Borrowed; NULL: not known. */
struct mz_set *mz_bundles_known(struct mz_bundles *b, uint64_t whom, unsigned type, const struct mz_set *asked);
void mz_bundles_know(struct mz_bundles *b, uint64_t whom, unsigned type, const struct mz_set *asked, struct mz_set *get);
/* What a client has that asked for these names and nothing else (as mz_bundles_name() has them), where another asked for the same in the
 * same order since the last trim; else NULL, and what is told then is kept. @list: of the names. Borrowed. */
struct mz_set *mz_bundles_asked(struct mz_bundles *b, const uint64_t list[3]);
void mz_bundles_ask(struct mz_bundles *b, const uint64_t list[3], struct mz_set *get);
/* A resource of @name that nobody has yet (version 0, no bytes), the same one for all that ask for it. A reference. */
struct mz_out *mz_bundles_name(struct mz_bundles *b, struct mz_str name);
/* Forgets steps and answers that nobody holds; names, when there are many; packed pieces that were not sent for long, @at_rest all of them. */
void mz_bundles_trim(struct mz_bundles *b, bool at_rest);
size_t mz_bundles_bytes(const struct mz_bundles *b); /* of all that are held here */
#endif
