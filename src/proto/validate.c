/* Checks messages against the table of constraints. */
#include "base/map.h"
#include "proto/constraints.h"
#include "proto/proto_priv.h"
#include <math.h>
#include <stdio.h>

struct checking {
    const struct constraint *c;
    const ProtobufCFieldDescriptor *f;
    const ProtobufCMessage *m;
    struct mz_err *err;
};

/* The first row behind the header of @name, or NULL. */
static const struct constraint *rows_of(const char *name)
{
    for (size_t lo = 0, hi = constraints_n; lo < hi;) {
        size_t mid = (lo + hi) / 2, head = mid;
        while (!constraints[head].message)
            head--;
        int cmp = strcmp(name, constraints[head].message);
        if (cmp == 0)
            return &constraints[head + 1];
        if (cmp < 0)
            hi = head;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* The same few types come again and again, and most have no rows. */
static const struct constraint *rows(const ProtobufCMessageDescriptor *d)
{
    static _Thread_local struct {
        const ProtobufCMessageDescriptor *of;
        const struct constraint *rows;
    } seen[64];
    const size_t at = (uintptr_t)d / sizeof(*d) % MZ_COUNT(seen);
    if (seen[at].of != d) {
        seen[at].of = d;
        seen[at].rows = rows_of(d->name);
    }
    return seen[at].rows;
}

static bool check_one_of(const struct checking *k)
{
    if (*(const uint32_t *)quantifier_at(k->f, k->m))
        return true;
    char names[400] = "";
    size_t at = 0;
    const ProtobufCMessageDescriptor *d = k->m->descriptor;
    for (unsigned i = 0; i < d->n_fields && at < sizeof(names); i++)
        if (is_oneof(&d->fields[i]) && d->fields[i].quantifier_offset == k->f->quantifier_offset)
            at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", at ? ", " : "",
                                   d->fields[i].name);
    return mz_err_set(k->err, "%s is required: one of %s", k->c->words, names);
}

static double number_of(const ProtobufCFieldDescriptor *f, const void *at)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_ENUM:
        return *(const int32_t *)at;
    case PROTOBUF_C_TYPE_UINT32:
        return *(const uint32_t *)at;
    case PROTOBUF_C_TYPE_INT64:
        return (double)*(const int64_t *)at;
    case PROTOBUF_C_TYPE_UINT64:
        return (double)*(const uint64_t *)at;
    case PROTOBUF_C_TYPE_FLOAT:
        return (double)*(const float *)at;
    case PROTOBUF_C_TYPE_DOUBLE:
        return *(const double *)at;
    default:
        return 0;
    }
}

static bool between(const struct checking *k, double v, const char *what)
{
    double lo = k->c->lo, hi = k->c->hi;
    if (v >= lo && v <= hi)
        return true;
    if (isinf(hi))
        return mz_err_set(k->err, "%smust be at least %.15g, is %.15g", what, lo, v);
    if (isinf(lo))
        return mz_err_set(k->err, "%smust be at most %.15g, is %.15g", what, hi, v);
    return mz_err_set(k->err, "%smust be between %.15g and %.15g, is %.15g", what, lo, hi, v);
}

static bool check_number(const struct checking *k, double v)
{
    switch (k->c->check) {
    case CHECK_ABOVE:
        return v > k->c->lo || mz_err_set(k->err, "must be more than %.15g, is %.15g", k->c->lo, v);
    case CHECK_NOT: {
        const ProtobufCEnumValue *e =
            protobuf_c_enum_descriptor_get_value(k->f->descriptor, (int)v);
        return v < k->c->lo || v > k->c->lo ||
               mz_err_set(k->err, "must not be %s", e ? e->name : "this value");
    }
    case CHECK_DEFINED:
        return protobuf_c_enum_descriptor_get_value(k->f->descriptor, (int)v) ||
               mz_err_set(k->err, "%.15g is no value of %s", v,
                          ((const ProtobufCEnumDescriptor *)k->f->descriptor)->name);
    default:
        return between(k, v, "");
    }
}

static bool check_duration(const struct checking *k, const pb_Duration *d)
{
    double ns = (double)d->seconds * 1e9 + d->nanos, lo = k->c->lo, hi = k->c->hi;
    if (ns >= lo && ns <= hi)
        return true;
    if (ns > hi)
        return mz_err_set(k->err, "must be less than %.9gs, is %.9gs", (hi + 1) / 1e9, ns / 1e9);
    bool odd = lo > 0 && fmod(lo, 10) > 0; /* upstream's "greater than" in whole nanoseconds */
    return mz_err_set(k->err, "must be %s %.9gs, is %.9gs", odd ? "greater than" : "at least",
                      (lo - odd) / 1e9, ns / 1e9);
}

static bool is_alnum(char c)
{
    return (mz_lower(c) >= 'a' && mz_lower(c) <= 'z') || (c >= '0' && c <= '9');
}

static bool is_entry_name(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]) && !(s.p[i] && strchr("_-.~:", s.p[i])))
            return false;
    return s.n > 0;
}

static bool is_token(struct mz_str s)
{
    for (size_t i = s.n && s.p[0] == ':'; i < s.n; i++)
        if (!is_alnum(s.p[i]) && !strchr("!#$%&'*+-.^_|~`", s.p[i]))
            return false;
    return true;
}

static bool has_control(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (((unsigned char)s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
            return true;
    return false;
}

/* A space at the end of @words: the empty one is among them. */
static bool is_word_of(struct mz_str s, const char *words)
{
    struct mz_str rest = mz_str_c(words), word;
    if (!s.n)
        return mz_str_ends(rest, MZ_STR(" "));
    while (mz_str_split(&rest, ' ', &word))
        if (mz_str_eq(word, s))
            return true;
    return false;
}

static bool check_text(const struct checking *k, struct mz_str s)
{
    switch (k->c->check) {
    case CHECK_LENGTH:
    case CHECK_KEY_LENGTH:
        if (s.n == 0 && k->c->lo >= 1)
            return mz_err_set(k->err, "must not be empty");
        return between(k, (double)s.n, "length ");
    case CHECK_WORD:
        return is_word_of(s, k->c->words) ||
               mz_err_set(k->err, "\"%.*s\" is none of: %s", MZ_STR_ARG(s), k->c->words);
    case CHECK_NO_CR_LF:
        return (mz_str_chr(s, '\r') < 0 && mz_str_chr(s, '\n') < 0) ||
               mz_err_set(k->err, "must not have a line break in it");
    case CHECK_HEADER_NAME:
        return is_token(s) || mz_err_set(k->err, "\"%.*s\" is not a header name", MZ_STR_ARG(s));
    case CHECK_HEADER_VALUE:
        return !has_control(s) || mz_err_set(k->err, "must not have control characters");
    case CHECK_ENTRY_NAME:
        return is_entry_name(s) ||
               mz_err_set(k->err, "\"%.*s\" must be of letters, digits and _-.~: alone",
                          MZ_STR_ARG(s));
    case CHECK_PATH_PREFIX:
        return (s.n >= 2 && mz_str_chr(s, '?') < 0 && mz_str_chr(s, '#') < 0 &&
                s.p[s.n - 1] != '/') ||
               mz_err_set(
                   k->err,
                   "\"%.*s\" must have two characters or more, no '?' or '#', no '/' at the end",
                   MZ_STR_ARG(s));
    default:
        return true;
    }
}

/* One value of the field, at @at; wrappers are opened. */
static bool check_value(const struct checking *k, const void *at)
{
    if (k->f->type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessage *sub = *(ProtobufCMessage *const *)at;
        if (!sub)
            return true;
        if (k->c->check == CHECK_DURATION)
            return check_duration(k, (const pb_Duration *)sub);
        struct checking inner = { k->c, &sub->descriptor->fields[0], sub, k->err };
        return check_value(&inner, field_at(inner.f, sub));
    }
    if (k->c->check == CHECK_TRUE)
        return *(const protobuf_c_boolean *)at ||
               mz_err_set(k->err, "must be true where it is set");
    if (k->f->type == PROTOBUF_C_TYPE_STRING)
        return check_text(k, mz_str_c(*(char *const *)at));
    if (k->f->type == PROTOBUF_C_TYPE_BYTES)
        return between(k, (double)((const ProtobufCBinaryData *)at)->len, "length ");
    return check_number(k, number_of(k->f, at));
}

static bool check_unique(const struct checking *k, const char *v, size_t n)
{
    const size_t size = field_size(k->f);
    const bool text = k->f->type == PROTOBUF_C_TYPE_STRING;
    struct mz_map seen;
    bool ok = true;
    mz_map_init(&seen, MZ_MEM_CONFIG);
    for (size_t i = 0; ok && i < n; i++) {
        const char *at = v + i * size,
                   *had = mz_map_put(&seen,
                                     text ? mz_str_c(((char *const *)(const void *)v)[i])
                                          : (struct mz_str){ at, size },
                                     (void *)(uintptr_t)at);
        if (had)
            ok = mz_err_set(k->err, "items %zu and %zu are the same", (size_t)(had - v) / size, i);
    }
    mz_map_fini(&seen);
    return ok;
}

static bool check_repeated(const struct checking *k)
{
    size_t n = *(const size_t *)quantifier_at(k->f, k->m), size = field_size(k->f);
    const char *v = *(char *const *)field_at(k->f, k->m);
    if (k->c->check == CHECK_ITEMS)
        return between(k, (double)n, "number of items ");
    if (k->c->check == CHECK_UNIQUE)
        return check_unique(k, v, n);
    struct checking inner = *k;
    if (k->c->check == CHECK_KEY_LENGTH)
        inner.f = &((const ProtobufCMessageDescriptor *)k->f->descriptor)->fields[0];
    for (size_t i = 0; i < n; i++) {
        const void *at = v + i * size;
        if (k->c->check == CHECK_KEY_LENGTH)
            at = field_at(inner.f, *(ProtobufCMessage *const *)at);
        if (!check_value(&inner, at))
            return mz_err_at(k->err, "[%zu]", i);
    }
    return true;
}

static bool check_row(const struct checking *k)
{
    if (k->c->check == CHECK_ONE_OF)
        return check_one_of(k);
    if (is_oneof(k->f) && !field_is_set(k->f, k->m))
        return true; /* another of the group, or none */
    if (k->c->check == CHECK_REQUIRED)
        return field_is_set(k->f, k->m) || mz_err_set(k->err, "is required");
    if (k->f->label == PROTOBUF_C_LABEL_REPEATED)
        return check_repeated(k);
    return check_value(k, field_at(k->f, k->m));
}

/* Puts the path of @top and the field in front of the message in @err. */
static bool at_path(const struct step *top, const struct constraint *c, struct mz_err *err)
{
    struct step s = { top, mz_str_c(c->field), STEP_FIELD, 0 };
    char path[sizeof(err->path)], inner[sizeof(err->path)], msg[sizeof(err->msg)];
    path_text(c->check == CHECK_ONE_OF ? top : &s, path, sizeof(path));
    memcpy(inner, err->path, sizeof(inner));
    memcpy(msg, err->msg, sizeof(msg));
    mz_err_set(err, "%s", msg);
    return path[0] || inner[0] ? mz_err_at(err, "%s%s", path, inner) : false;
}

static bool check_own(const struct step *top, const ProtobufCMessage *m, struct mz_err *err)
{
    const struct constraint *c = rows(m->descriptor);
    for (; c && c < constraints + constraints_n && !c->message; c++) {
        struct checking k = {
            c, protobuf_c_message_descriptor_get_field_by_name(m->descriptor, c->field), m, err
        };
        if (!check_row(&k))
            return at_path(top, c, err);
    }
    return true;
}

static bool check_below(const struct step *top, const ProtobufCFieldDescriptor *f,
                        const ProtobufCMessage *m, struct mz_err *err)
{
    struct step field = { top, mz_str_c(f->name), STEP_FIELD, 0 };
    if (f->label != PROTOBUF_C_LABEL_REPEATED)
        return validate_at(&field, *(ProtobufCMessage *const *)field_at(f, m), err);
    ProtobufCMessage **v = *(ProtobufCMessage ***)field_at(f, m);
    const ProtobufCMessageDescriptor *entry = field_map_entry(m->descriptor, f);
    for (size_t i = 0; i < *(const size_t *)quantifier_at(f, m); i++) {
        struct step item = { &field, { 0 }, STEP_INDEX, i };
        if (!entry) {
            if (!validate_at(&item, v[i], err))
                return false;
            continue;
        }
        if (entry->fields[1].type != PROTOBUF_C_TYPE_MESSAGE ||
            entry->fields[0].type != PROTOBUF_C_TYPE_STRING)
            continue;
        item.kind = STEP_KEY;
        item.name = mz_str_c(*(char **)field_at(&entry->fields[0], v[i]));
        const ProtobufCMessage *value = *(ProtobufCMessage **)field_at(&entry->fields[1], v[i]);
        if (value && !validate_at(&item, value, err))
            return false;
    }
    return true;
}

static bool check_well_known(const struct step *top, const ProtobufCMessage *m, struct mz_err *err)
{
    char path[sizeof(err->path)];
    if (well_known_check(m, err))
        return true;
    path_text(top, path, sizeof(path));
    return path[0] ? mz_err_at(err, "%s", path) : false;
}

/* Recurses; messages come through readers that bound their depth. */
bool validate_at(const struct step *top, const ProtobufCMessage *m, struct mz_err *err)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    if (!strcmp(d->package_name, "google.protobuf"))
        return check_well_known(top, m, err);
    if (!check_own(top, m, err))
        return false;
    for (unsigned i = 0; i < d->n_fields; i++)
        if (d->fields[i].type == PROTOBUF_C_TYPE_MESSAGE && field_is_set(&d->fields[i], m) &&
            !check_below(top, &d->fields[i], m, err))
            return false;
    return true;
}

bool mz_msg_validate(const ProtobufCMessage *msg, struct mz_err *err)
{
    return validate_at(NULL, msg, err);
}
