#include "observe/log_filter.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/rand.h"
#include "observe/attributes.h"
#include "observe/format_priv.h"
#include "observe/matcher.h"
#include "proto/mapper.h"
#include "runtime/runtime.h"

struct mz_log_filter {
    pb_AccessLogFilter_FilterSpecifierCase kind;
    struct { /* status_code_filter, duration_filter */
        pb_ComparisonFilter_Op op;
        uint32_t value;
    } than;
    struct mz_str key; /* runtime */
    char *key_mem;
    struct mz_fraction sampled;
    bool independent, exclude, if_not_found;
    uint64_t bits; /* response flags, gRPC statuses, log types */
    struct mz_header_match *header;
    struct mz_metadata_match *metadata;
    struct mz_cel *cel;       /* extension_filter */
    struct mz_log_filter **v; /* and_filter, or_filter */
    size_t n;
};

static struct mz_log_filter *filter_build(const pb_AccessLogFilter *m, unsigned depth,
                                          struct mz_err *err);

static void key_set(struct mz_log_filter *f, const char *key)
{
    struct mz_str s = mz_str_c(key);
    f->key_mem = mz_strndup(MZ_MEM_CONFIG, s.n ? s.p : "", s.n);
    f->key = (struct mz_str){ f->key_mem, s.n };
}

static bool comparison_build(const pb_ComparisonFilter *m, struct mz_log_filter *f,
                             struct mz_err *err)
{
    if (!m || !m->value)
        return mz_err_set(err, "comparison with a value is required");
    f->than.op = m->op;
    f->than.value = m->value->default_value;
    key_set(f, m->value->runtime_key);
    return true;
}

static bool runtime_build(const pb_RuntimeFilter *m, struct mz_log_filter *f)
{
    static const uint32_t denominators[] = { [pb_FractionalPercent_DenominatorType_HUNDRED] = 100,
                                             [pb_FractionalPercent_DenominatorType_TEN_THOUSAND] =
                                                 10000,
                                             [pb_FractionalPercent_DenominatorType_MILLION] =
                                                 1000000 };
    key_set(f, m->runtime_key);
    f->independent = m->use_independent_randomness != 0;
    f->sampled = (struct mz_fraction){ f->key, 0, 100 };
    if (m->percent_sampled && (unsigned)m->percent_sampled->denominator < MZ_COUNT(denominators)) {
        f->sampled.numerator = m->percent_sampled->numerator;
        f->sampled.denominator = denominators[m->percent_sampled->denominator];
    }
    return true;
}

static bool list_build(pb_AccessLogFilter *const *v, size_t n, unsigned depth,
                       struct mz_log_filter *f, struct mz_err *err)
{
    f->v = mz_newn0(MZ_MEM_CONFIG, struct mz_log_filter *, n + 1);
    for (; f->n < n; f->n++) {
        f->v[f->n] = filter_build(v[f->n], depth + 1, err);
        if (!f->v[f->n])
            return mz_err_at(err, "filters[%zu]", f->n);
    }
    return true;
}

static bool flags_build(const pb_ResponseFlagFilter *m, struct mz_log_filter *f, struct mz_err *err)
{
    for (size_t i = 0; i < m->n_flags; i++) {
        uint64_t bit;
        if (!mz_flag_parse(mz_str_c(m->flags[i]), &bit))
            return mz_err_set(err, "unknown response flag \"%s\"", m->flags[i]) ||
                   mz_err_at(err, "flags[%zu]", i);
        f->bits |= bit;
    }
    if (m->n_flags == 0)
        f->bits = UINT64_MAX; /* any flag */
    return true;
}

static bool metadata_build(const pb_MetadataFilter *m, struct mz_log_filter *f, struct mz_err *err)
{
    f->if_not_found = mz_bool_or(m->match_if_key_not_found, true);
    f->metadata = m->matcher ? mz_metadata_match_build(m->matcher, err) : NULL;
    return f->metadata || !m->matcher || mz_err_at(err, "matcher");
}

/* The one extension there is: a CEL expression. */
static bool extension_build(const pb_ExtensionFilter *m, struct mz_log_filter *f,
                            struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    ProtobufCMessage *msg;
    bool ok = m->config_type_case == pb_ExtensionFilter_CONFIG_TYPE_TYPED_CONFIG ||
              mz_err_set(err, "is required");
    ok = ok && mz_any_unpack_as(&ctx, m->typed_config, &pb_ExpressionFilter__descriptor, &msg, err);
    if (ok) {
        const pb_ExpressionFilter *e = (const pb_ExpressionFilter *)msg;
        f->cel = mz_attributes_compile(mz_str_c(e->expression), e->cel_config, err);
        ok = f->cel || mz_err_at(err, "expression");
    }
    mz_arena_destroy(a);
    return ok || mz_err_at(err, "extension_filter.typed_config");
}

static bool cel_pass(const struct mz_log_filter *f, const struct mz_format_ctx *c)
{
    struct mz_attributes attributes;
    mz_attributes_init(&attributes, c);
    return mz_cel_test(f->cel, &attributes.vars, c->info->arena) == MZ_CEL_YES;
}

static bool kind_build(const pb_AccessLogFilter *m, unsigned depth, struct mz_log_filter *f,
                       struct mz_err *err)
{
    switch (m->filter_specifier_case) {
    case pb_AccessLogFilter_FILTER_SPECIFIER_STATUS_CODE_FILTER:
        return comparison_build(m->status_code_filter->comparison, f, err) ||
               mz_err_at(err, "status_code_filter");
    case pb_AccessLogFilter_FILTER_SPECIFIER_DURATION_FILTER:
        return comparison_build(m->duration_filter->comparison, f, err) ||
               mz_err_at(err, "duration_filter");
    case pb_AccessLogFilter_FILTER_SPECIFIER_NOT_HEALTH_CHECK_FILTER:
    case pb_AccessLogFilter_FILTER_SPECIFIER_TRACEABLE_FILTER:
        return true;
    case pb_AccessLogFilter_FILTER_SPECIFIER_RUNTIME_FILTER:
        return runtime_build(m->runtime_filter, f);
    case pb_AccessLogFilter_FILTER_SPECIFIER_AND_FILTER:
        return list_build(m->and_filter->filters, m->and_filter->n_filters, depth, f, err) ||
               mz_err_at(err, "and_filter");
    case pb_AccessLogFilter_FILTER_SPECIFIER_OR_FILTER:
        return list_build(m->or_filter->filters, m->or_filter->n_filters, depth, f, err) ||
               mz_err_at(err, "or_filter");
    case pb_AccessLogFilter_FILTER_SPECIFIER_HEADER_FILTER:
        if (!m->header_filter->header)
            return mz_err_set(err, "is required") || mz_err_at(err, "header_filter.header");
        f->header = mz_header_match_build(m->header_filter->header, err);
        return f->header || mz_err_at(err, "header_filter.header");
    case pb_AccessLogFilter_FILTER_SPECIFIER_RESPONSE_FLAG_FILTER:
        return flags_build(m->response_flag_filter, f, err) ||
               mz_err_at(err, "response_flag_filter");
    case pb_AccessLogFilter_FILTER_SPECIFIER_GRPC_STATUS_FILTER:
        f->exclude = m->grpc_status_filter->exclude != 0;
        for (size_t i = 0; i < m->grpc_status_filter->n_statuses; i++)
            f->bits |= 1ull << ((unsigned)m->grpc_status_filter->statuses[i] & 63);
        return true;
    case pb_AccessLogFilter_FILTER_SPECIFIER_METADATA_FILTER:
        return metadata_build(m->metadata_filter, f, err) || mz_err_at(err, "metadata_filter");
    case pb_AccessLogFilter_FILTER_SPECIFIER_LOG_TYPE_FILTER:
        f->exclude = m->log_type_filter->exclude != 0;
        for (size_t i = 0; i < m->log_type_filter->n_types; i++)
            f->bits |= 1ull << ((unsigned)m->log_type_filter->types[i] & 63);
        return true;
    case pb_AccessLogFilter_FILTER_SPECIFIER_EXTENSION_FILTER:
        return extension_build(m->extension_filter, f, err);
    default:
        return mz_err_set(err, "no filter is set");
    }
}

static struct mz_log_filter *filter_build(const pb_AccessLogFilter *m, unsigned depth,
                                          struct mz_err *err)
{
    struct mz_log_filter *f = mz_new0(MZ_MEM_CONFIG, struct mz_log_filter);
    f->kind = m->filter_specifier_case;
    bool shallow = depth < MZ_TREE_MAX_DEPTH || mz_err_set(err, "filters are nested too deeply");
    if (shallow && kind_build(m, depth, f, err))
        return f;
    mz_log_filter_destroy(f);
    return NULL;
}

struct mz_log_filter *mz_log_filter_create(const pb_AccessLogFilter *m, struct mz_err *err)
{
    return filter_build(m, 0, err);
}

void mz_log_filter_destroy(struct mz_log_filter *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->n; i++)
        mz_log_filter_destroy(f->v[i]);
    mz_free(MZ_MEM_CONFIG, f->v);
    mz_free(MZ_MEM_CONFIG, f->key_mem);
    mz_header_match_destroy(f->header);
    mz_metadata_match_destroy(f->metadata);
    mz_cel_destroy(f->cel);
    mz_free(MZ_MEM_CONFIG, f);
}

/* ---- deciding ---- */

static bool compare(const struct mz_log_filter *f, uint64_t v)
{
    uint64_t than =
        f->key.n ? mz_runtime_u64(mz_runtime_here(), f->key, f->than.value) : f->than.value;
    switch (f->than.op) {
    case pb_ComparisonFilter_Op_GE:
        return v >= than;
    case pb_ComparisonFilter_Op_LE:
        return v <= than;
    case pb_ComparisonFilter_Op_NE:
        return v != than;
    default:
        return v == than;
    }
}

static uint64_t duration_ms(const struct mz_format_ctx *c)
{
    uint64_t end = c->info->end_us ? c->info->end_us : c->now_us ? c->now_us : mz_clock->mono_us();
    return end > c->info->start_us ? (end - c->info->start_us) / 1000 : 0;
}

/* The first 8 hexadecimal digits of the request id, so that all proxies on the way decide alike; else any number. */
static uint64_t sample_number(const struct mz_log_filter *f, const struct mz_format_ctx *c)
{
    static _Thread_local struct mz_rand rand;
    static _Thread_local bool seeded;
    struct mz_str id = c->info->request_id;
    uint64_t n = 0;
    unsigned digits = 0;
    for (; !f->independent && digits < 8 && digits < id.n; digits++) {
        char ch = id.p[digits];
        if (!((ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'f')))
            break;
        n = n * 16 + (uint64_t)(ch <= '9' ? ch - '0' : ch - 'a' + 10);
    }
    if (digits == 8)
        return n;
    if (!seeded) {
        mz_rand_init(&rand, 0);
        seeded = true;
    }
    return mz_rand_u64(&rand);
}

static bool grpc_pass(const struct mz_log_filter *f, const struct mz_format_ctx *c)
{
    uint64_t status = 2; /* Unknown, where nothing says more */
    (void)grpc_status_of(ctx_resp(c), ctx_trailers(c), c->info->status, &status);
    return (status < 64 && (f->bits >> status & 1)) != f->exclude;
}

static bool log_type_pass(const struct mz_log_filter *f, const struct mz_format_ctx *c)
{
    const char *name = c->log_type ? c->log_type : "NotSet";
    const ProtobufCEnumValue *v =
        protobuf_c_enum_descriptor_get_value_by_name(&pb_AccessLogType__descriptor, name);
    return (v && (f->bits >> ((unsigned)v->value & 63) & 1)) != f->exclude;
}

static bool metadata_pass(const struct mz_log_filter *f, const struct mz_format_ctx *c)
{
    const struct mz_meta *meta = c->info->dynamic_metadata;
    if (!f->metadata || !mz_metadata_match_found(f->metadata, meta))
        return f->if_not_found;
    return mz_metadata_match(f->metadata, meta);
}

static bool all_pass(const struct mz_log_filter *f, const struct mz_format_ctx *c)
{
    for (size_t i = 0; i < f->n; i++)
        if (!mz_log_filter_match(f->v[i], c))
            return false;
    return true;
}

static bool one_passes(const struct mz_log_filter *f, const struct mz_format_ctx *c)
{
    for (size_t i = 0; i < f->n; i++)
        if (mz_log_filter_match(f->v[i], c))
            return true;
    return false;
}

bool mz_log_filter_match(const struct mz_log_filter *f, const struct mz_format_ctx *c)
{
    switch (f->kind) {
    case pb_AccessLogFilter_FILTER_SPECIFIER_STATUS_CODE_FILTER:
        return compare(f, c->info->status);
    case pb_AccessLogFilter_FILTER_SPECIFIER_DURATION_FILTER:
        return compare(f, duration_ms(c));
    case pb_AccessLogFilter_FILTER_SPECIFIER_NOT_HEALTH_CHECK_FILTER:
        return !c->info->health_check;
    case pb_AccessLogFilter_FILTER_SPECIFIER_TRACEABLE_FILTER:
        return c->info->traceable;
    case pb_AccessLogFilter_FILTER_SPECIFIER_RUNTIME_FILTER:
        return mz_runtime_fraction(mz_runtime_here(), &f->sampled, sample_number(f, c));
    case pb_AccessLogFilter_FILTER_SPECIFIER_AND_FILTER:
        return all_pass(f, c);
    case pb_AccessLogFilter_FILTER_SPECIFIER_OR_FILTER:
        return one_passes(f, c);
    case pb_AccessLogFilter_FILTER_SPECIFIER_HEADER_FILTER:
        return mz_header_match(f->header, ctx_req(c));
    case pb_AccessLogFilter_FILTER_SPECIFIER_RESPONSE_FLAG_FILTER:
        return (c->info->flags & f->bits) != 0;
    case pb_AccessLogFilter_FILTER_SPECIFIER_GRPC_STATUS_FILTER:
        return grpc_pass(f, c);
    case pb_AccessLogFilter_FILTER_SPECIFIER_METADATA_FILTER:
        return metadata_pass(f, c);
    case pb_AccessLogFilter_FILTER_SPECIFIER_LOG_TYPE_FILTER:
        return log_type_pass(f, c);
    case pb_AccessLogFilter_FILTER_SPECIFIER_EXTENSION_FILTER:
        return cel_pass(f, c);
    default:
        return true;
    }
}
