#ifndef MZ_OBSERVE_TO_PROTO_H
#define MZ_OBSERVE_TO_PROTO_H
/* What is known of a stream as messages for services: authorization, logs. All in the arena given; any thread. */
#include "net/addr.h"
#include "observe/metadata.h"
#include "proto/names.h"

/* An empty message of type @T (pb_...). */
#define mz_proto_new(a, T)                                                                                             \
    __extension__({                                                                                                    \
        T *new_ = mz_arena_alloc((a), sizeof(T));                                                                      \
        *new_ = (T)T##__INIT;                                                                                          \
        new_;                                                                                                          \
    })

/* A string field: NUL-terminated, UTF-8; each byte that is no part of it, and NUL, is '!' (Envoy does so with the former). */
char *mz_proto_text(struct mz_str s, struct mz_arena *a);
pb_Address *mz_proto_address(const struct mz_addr *addr, struct mz_arena *a); /* NULL: there is none */
pb_Value *mz_proto_value(const struct mz_value *v, struct mz_arena *a);
pb_Struct *mz_proto_struct(const struct mz_value *v, struct mz_arena *a); /* of kind MZ_VALUE_STRUCT */
pb_Metadata *mz_proto_metadata(const struct mz_meta *m, struct mz_arena *a);
/* Of these namespaces the ones that are there, each of the first of the @n_from that has it (NULL ones are passed over). */
pb_Metadata *mz_proto_metadata_of(const struct mz_str *ns, size_t n, const struct mz_meta *const *from, size_t n_from,
                                  struct mz_arena *a);
pb_Timestamp *mz_proto_timestamp(uint64_t wall_us, struct mz_arena *a);
pb_Duration *mz_proto_duration(uint64_t us, struct mz_arena *a);
#endif
