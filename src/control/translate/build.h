#ifndef MZ_CONTROL_TRANSLATE_BUILD_H
#define MZ_CONTROL_TRANSLATE_BUILD_H
/* Messages of protobuf-c in an arena, as short as they can be written. Everything lives as long as the arena. */
#include "control/model/model.h"

ProtobufCMessage *tr_new(struct mz_arena *a, const ProtobufCMessageDescriptor *d);
#define TR_NEW(a, T) ((pb_##T *)tr_new((a), &pb_##T##__descriptor))
/* TR_ADD(a, cluster, filters) = f: one more of a repeated field. */
#define TR_ADD(a, m, field)                                                                        \
    (*((m)->field = tr_grow((a), (m)->field, (m)->n_##field, sizeof(*(m)->field)), &(m)->field[(m)->n_##field++]))
void *tr_grow(struct mz_arena *a, void *v, size_t n, size_t size);

/* By key; those of one key stay as they stand. */
struct tr_keyed {
    const char *key;
    void *what;
    size_t at; /* set by tr_sort() */
};
void tr_sort(struct tr_keyed *v, size_t n);

char *tr_text(struct mz_arena *a, struct mz_str s); /* copies */
#define TR_PRINTF(a, ...) ((char *)(uintptr_t)mz_arena_printf((a), __VA_ARGS__).p)
/* Texts behind each other; TR_PRINTF takes three times as long. */
#define TR_CAT_STR(a, ...)                                                                         \
    mz_arena_cat((a), MZ_COUNT(((struct mz_str[]){ __VA_ARGS__ })),                                \
                 (struct mz_str[]){ __VA_ARGS__ })
#define TR_CAT(a, ...) ((char *)(uintptr_t)TR_CAT_STR(a, __VA_ARGS__).p)
static inline struct mz_str tr_number(uint64_t v, char room[20])
{
    return (struct mz_str){ room, mz_u64_text(v, room) };
}
#define TR_CONST(lit) ((char *)(uintptr_t)(lit)) /* a text that is there for ever */
pb_UInt32Value *tr_u32(struct mz_arena *a, uint32_t v);
pb_BoolValue *tr_bool(struct mz_arena *a, bool v);
pb_Duration *tr_duration_us(struct mz_arena *a, uint64_t us);
void *tr_packed(struct mz_arena *a, const void *m); /* stands for @m in a message that is only packed (proto/pack.h); borrows nothing */
pb_Any *tr_any(struct mz_arena *a, const void *m); /* packs */
pb_Address *tr_address(struct mz_arena *a, struct mz_str ip, uint32_t port);
pb_Address *tr_address_or_pipe(struct mz_arena *a, struct mz_str where, uint32_t port); /* port 0: a path */
pb_SocketAddress *tr_socket_address(struct mz_arena *a, struct mz_str ip, uint32_t port);
pb_CidrRange *tr_range(struct mz_arena *a, struct mz_str range); /* "10.0.0.0/8" */
pb_ConfigSource *tr_ads(struct mz_arena *a); /* ads, without a time limit for the first answer */
pb_TransportSocket *tr_transport_socket(struct mz_arena *a, const char *name, const void *config);
pb_TransportSocket *tr_transport_socket_packed(struct mz_arena *a, const char *name, const ProtobufCMessageDescriptor *d, struct mz_str packed);

/* ---- google.protobuf.Struct ---- */
pb_Value *tr_struct_at(struct mz_arena *a, pb_Struct *s, const char *key); /* the value of @key, made where there is none */
void tr_struct_text(struct mz_arena *a, pb_Struct *s, const char *key, struct mz_str text);
void tr_struct_bool(struct mz_arena *a, pb_Struct *s, const char *key, bool v);
pb_ListValue *tr_struct_list(struct mz_arena *a, pb_Struct *s, const char *key);
pb_Struct *tr_list_add_struct(struct mz_arena *a, pb_ListValue *l);
/* Metadata with the one service behind a cluster ("istio", "services"), that is only packed; as what the functions above would make. */
pb_Metadata *tr_service_metadata(struct mz_arena *a, struct mz_str host, struct mz_str name, struct mz_str ns);
/* Which document something was made of, for people: kind "virtual-service". */
void tr_name_document(struct mz_arena *a, pb_Metadata **m, const char *kind, struct mz_str ns, struct mz_str name);
pb_Struct *tr_metadata(struct mz_arena *a, pb_Metadata **m, const char *filter); /* filter_metadata of @filter, made where there is none */
#endif
