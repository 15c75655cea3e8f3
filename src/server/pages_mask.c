/* Field masks of /config_dump: what the paths do not name is emptied. Messages live in an arena, nothing is freed. */
#include "server/pages_priv.h"

struct field_ref {
    void *value;    /* in the message */
    void *quantity; /* of repeated ones and oneofs */
};

static struct field_ref field_of(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    return (struct field_ref){ (char *)m + f->offset, (char *)m + f->quantifier_offset };
}

static bool in_oneof(const ProtobufCFieldDescriptor *f)
{
    return f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
}

static size_t scalar_size(ProtobufCType t)
{
    switch (t) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    default:
        return 4;
    }
}

static void clear(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    struct field_ref r = field_of(m, f);
    if (in_oneof(f)) {
        uint32_t *which = r.quantity;
        *which = *which == f->id ? 0 : *which;
    } else if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        *(size_t *)r.quantity = 0;
    } else if (f->type == PROTOBUF_C_TYPE_STRING) {
        *(const char **)r.value = f->default_value ? f->default_value : "";
    } else if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        *(ProtobufCMessage **)r.value = NULL;
    } else if (f->type == PROTOBUF_C_TYPE_BYTES) {
        *(ProtobufCBinaryData *)r.value = (ProtobufCBinaryData){ 0, NULL };
    } else {
        memset(r.value, 0, scalar_size(f->type));
    }
}

/* The paths that go on below @field, without it; *out_whole: a path ends here. */
static struct mz_str below(struct mz_str paths, struct mz_str field, bool *out_whole,
                           struct mz_arena *a)
{
    struct mz_buf b;
    *out_whole = false;
    mz_buf_init(&b);
    for (struct mz_str path; mz_str_split(&paths, ',', &path);) {
        if (!mz_str_starts(path, field))
            continue;
        if (path.n == field.n)
            *out_whole = true;
        else if (path.p[field.n] == '.') {
            if (mz_buf_len(&b))
                mz_buf_append(&b, ",", 1);
            mz_buf_append_str(&b, mz_str_skip(path, field.n + 1));
        }
    }
    struct mz_str r = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return r;
}

static bool mask_any(pb_Any *any, struct mz_str paths, struct mz_arena *a)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    const ProtobufCMessageDescriptor *d;
    ProtobufCMessage *m;
    struct mz_err err;
    if (!mz_any_unpack(&ctx, any, &d, &m, &err) || !mask_apply(m, paths, a))
        return false;
    struct mz_str bytes = mz_msg_pack_alloc(m, a);
    any->value = (ProtobufCBinaryData){ bytes.n, (uint8_t *)(uintptr_t)bytes.p };
    return true;
}

static bool mask_one(ProtobufCMessage *m, struct mz_str paths, struct mz_arena *a)
{
    return m->descriptor == &pb_Any__descriptor ? mask_any((pb_Any *)m, paths, a)
                                                : mask_apply(m, paths, a);
}

static bool mask_below(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, struct mz_str paths,
                       struct mz_arena *a)
{
    struct field_ref r = field_of(m, f);
    if (f->type != PROTOBUF_C_TYPE_MESSAGE)
        return false;
    if (f->label != PROTOBUF_C_LABEL_REPEATED) {
        ProtobufCMessage *sub = *(ProtobufCMessage **)r.value;
        bool there = sub && (!in_oneof(f) || *(uint32_t *)r.quantity == f->id);
        return !there || mask_one(sub, paths, a);
    }
    ProtobufCMessage **v = *(ProtobufCMessage ***)r.value;
    bool ok = true;
    for (size_t i = 0, n = *(size_t *)r.quantity; ok && i < n; i++)
        ok = mask_one(v[i], paths, a);
    return ok;
}

static bool names_fields(const ProtobufCMessageDescriptor *d, struct mz_str paths)
{
    for (struct mz_str path; mz_str_split(&paths, ',', &path);) {
        struct mz_str first;
        bool known = false;
        if (mz_str_ends(path, MZ_STR(".")) || !mz_str_split(&path, '.', &first))
            return false;
        for (unsigned i = 0; i < d->n_fields && !known; i++)
            known = mz_str_eq(first, mz_str_c(d->fields[i].name));
        if (!known)
            return false;
    }
    return true;
}

bool mask_apply(ProtobufCMessage *m, struct mz_str paths, struct mz_arena *a)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    if (!names_fields(d, paths))
        return false;
    for (unsigned i = 0; i < d->n_fields; i++) {
        bool whole;
        struct mz_str sub = below(paths, mz_str_c(d->fields[i].name), &whole, a);
        if (!whole && !sub.n)
            clear(m, &d->fields[i]);
        else if (!whole && !mask_below(m, &d->fields[i], sub, a))
            return false;
    }
    return true;
}
