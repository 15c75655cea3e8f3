/* Merging messages by proto's rules. */
#include "base/map.h"
#include "proto/proto_priv.h"

static struct mz_str key_of(const ProtobufCFieldDescriptor *key, const ProtobufCMessage *entry)
{
    const char *at = field_at(key, entry);
    return key->type == PROTOBUF_C_TYPE_STRING ? mz_str_c(*(char *const *)(const void *)at)
                                               : (struct mz_str){ at, field_size(key) };
}

static void merge_map(const ProtobufCFieldDescriptor *f, const ProtobufCMessageDescriptor *entry,
                      ProtobufCMessage *into, const ProtobufCMessage *from, struct mz_arena *a)
{
    const ProtobufCFieldDescriptor *key = &entry->fields[0];
    size_t *n = quantifier_at(f, into), more = *(const size_t *)quantifier_at(f, from);
    ProtobufCMessage **old = *(ProtobufCMessage ***)field_at(f, into),
                     **add = *(ProtobufCMessage ***)field_at(f, from);
    ProtobufCMessage **v = mz_arena_alloc(a, (*n + more) * sizeof(ProtobufCMessage *));
    struct mz_map places; /* of those that were there */
    mz_map_init(&places, MZ_MEM_CONFIG);
    for (size_t i = 0; i < *n; i++) {
        v[i] = old[i];
        if (!mz_map_get(&places, key_of(key, v[i])))
            (void)mz_map_put(&places, key_of(key, v[i]), &v[i]);
    }
    for (size_t i = 0; i < more; i++) {
        ProtobufCMessage **at = mz_map_get(&places, key_of(key, add[i]));
        *(at ? at : &v[(*n)++]) = add[i];
    }
    mz_map_fini(&places);
    *(ProtobufCMessage ***)field_at(f, into) = v;
}

static void append(const ProtobufCFieldDescriptor *f, ProtobufCMessage *into,
                   const ProtobufCMessage *from, struct mz_arena *a)
{
    size_t *n = quantifier_at(f, into), more = *(const size_t *)quantifier_at(f, from),
           size = field_size(f);
    char *v = mz_arena_alloc(a, (*n + more) * size);
    if (*n)
        memcpy(v, *(char **)field_at(f, into), *n * size);
    memcpy(v + *n * size, *(char **)field_at(f, from), more * size);
    *(char **)field_at(f, into) = v;
    *n += more;
}

static bool is_replaced(const ProtobufCFieldDescriptor *f, unsigned flags)
{
    return f->label == PROTOBUF_C_LABEL_REPEATED
               ? flags & MZ_MERGE_LISTS
               : (flags & MZ_MERGE_DURATIONS) && f->type == PROTOBUF_C_TYPE_MESSAGE &&
                     f->descriptor == &pb_Duration__descriptor;
}

static void merge_field(const ProtobufCFieldDescriptor *f, ProtobufCMessage *into,
                        const ProtobufCMessage *from, unsigned flags, struct mz_arena *a)
{
    const ProtobufCMessageDescriptor *entry = field_map_entry(into->descriptor, f);
    if (entry) {
        merge_map(f, entry, into, from, a);
    } else if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        if (is_replaced(f, flags))
            *(size_t *)quantifier_at(f, into) = 0;
        append(f, into, from, a);
    } else if (f->type == PROTOBUF_C_TYPE_MESSAGE && field_is_set(f, into) &&
               !is_replaced(f, flags)) {
        mz_msg_merge_as(*(ProtobufCMessage **)field_at(f, into),
                        *(ProtobufCMessage **)field_at(f, from), flags, a);
    } else {
        memcpy(field_at(f, into), field_at(f, from), field_size(f));
        if (is_oneof(f))
            *(uint32_t *)quantifier_at(f, into) = f->id;
    }
}

void mz_msg_merge_as(ProtobufCMessage *into, const ProtobufCMessage *from, unsigned flags,
                     struct mz_arena *a)
{
    const ProtobufCMessageDescriptor *d = into->descriptor;
    for (unsigned i = 0; i < d->n_fields; i++)
        if (field_is_set(&d->fields[i], from))
            merge_field(&d->fields[i], into, from, flags, a);
}

void mz_msg_merge(ProtobufCMessage *into, const ProtobufCMessage *from, struct mz_arena *a)
{
    mz_msg_merge_as(into, from, 0, a);
}
