#ifndef MZ_OBSERVE_SHARED_STATE_H
#define MZ_OBSERVE_SHARED_STATE_H
/*
 * Filter state that goes along with an upstream connection (U8): copies of the objects that are to be shared, which the listener
 * at an internal address gets. Immutable, counted; any thread.
 */
#include "net/transport.h"
#include "observe/stream_info.h"

/* One reference; NULL: nothing in @i is shared. Its key is made of the objects that have a hash. */
struct mz_shared_state *mz_shared_state_create(const struct mz_stream_info *i);
const struct mz_filter_object *mz_shared_state_get(const struct mz_shared_state *s,
                                                   struct mz_str name); /* NULL: none */
/* The objects become @into's, which must go before @s; @s NULL: nothing. */
void mz_shared_state_put(const struct mz_shared_state *s, struct mz_stream_info *into);
#endif
