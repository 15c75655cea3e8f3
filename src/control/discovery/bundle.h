#ifndef MZ_CONTROL_DISCOVERY_BUNDLE_H
#define MZ_CONTROL_DISCOVERY_BUNDLE_H
/*
 * The `resources` of responses, packed once for all clients that are sent the same ones: what waits in a thousand queues is one
 * piece of memory. Main thread.
 */
#include "control/translate/translate.h"

struct mz_bundles;
struct mz_bundles *mz_bundles_create(void);
void mz_bundles_destroy(struct mz_bundles *b); /* NULL is fine; what clients still hold stays */
/* Appends field 2 of a DiscoveryResponse or, @delta, a DeltaDiscoveryResponse with all of @v. @url: "type.googleapis.com/..." */
void mz_bundles_append(struct mz_bundles *b, struct mz_buf *out, bool delta, struct mz_str url, const struct mz_out *const *v, size_t n);
/* A resource of @name that nobody has yet (version 0, no bytes), the same one for all that ask for it. A reference. */
struct mz_out *mz_bundles_name(struct mz_bundles *b, struct mz_str name);
void mz_bundles_trim(struct mz_bundles *b); /* forgets those that nobody holds */
size_t mz_bundles_bytes(const struct mz_bundles *b); /* of all that are held here */
#endif
