#include "observe/substitution.h"
#include "base/arena.h"
#include "observe/format_priv.h"
#include "proto/data_source.h"
#include "proto/mapper.h"

struct mz_log_format {
    struct mz_format *text; /* one of the two */
    struct mz_format_json *json;
    char *content_type; /* "": by kind */
};

const struct mz_str mz_log_format_default = MZ_STR_INIT(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% "
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    "\"%REQ(X-FORWARDED-FOR)%\" "
    "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n");

enum { SOURCE_MAX_BYTES = 1 << 20 };

static struct mz_format *format_of_source(const pb_DataSource *m, bool omit, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_str text;
    struct mz_format *f = NULL;
    if (mz_data_source_read(m, SOURCE_MAX_BYTES, a, &text, err))
        f = mz_format_create(text, omit, err);
    mz_arena_destroy(a);
    return f;
}

/* Formatter extensions add operators; those of the ones that are known exist here without being asked for. */
static bool formatters_check(const pb_SubstitutionFormatString *m, struct mz_err *err)
{
    for (size_t i = 0; i < m->n_formatters; i++) {
        struct mz_str type = m->formatters[i]->typed_config
                                 ? mz_any_type(m->formatters[i]->typed_config)
                                 : (struct mz_str){ "", 0 };
        if (mz_str_eq(type, mz_str_c(pb_ReqWithoutQuery__descriptor.name)) ||
            mz_str_eq(type, mz_str_c(pb_Cel__descriptor.name)) ||
            mz_str_eq(type, mz_str_c(pb_formatter_metadata_Metadata__descriptor.name)))
            continue;
        (void)mz_err_set(err, "unknown formatter extension \"" MZ_STR_FMT "\"", MZ_STR_ARG(type));
        return mz_err_at(err, "formatters[%zu].typed_config", i);
    }
    return true;
}

static bool format_fill(const pb_SubstitutionFormatString *m, struct mz_log_format *f,
                        struct mz_err *err)
{
    bool omit = m->omit_empty_values != 0;
    switch (m->format_case) {
    case pb_SubstitutionFormatString_FORMAT_TEXT_FORMAT:
        f->text = mz_format_create(mz_str_c(m->text_format), omit, err);
        return f->text || mz_err_at(err, "text_format");
    case pb_SubstitutionFormatString_FORMAT_TEXT_FORMAT_SOURCE:
        f->text = format_of_source(m->text_format_source, omit, err);
        return f->text || mz_err_at(err, "text_format_source");
    case pb_SubstitutionFormatString_FORMAT_JSON_FORMAT:
        f->json = mz_format_json_create(m->json_format, omit, true, err);
        return f->json || mz_err_at(err, "json_format");
    default:
        return mz_err_set(err, "no format: set text_format_source or json_format");
    }
}

struct mz_log_format *mz_log_format_create(const pb_SubstitutionFormatString *m, struct mz_err *err)
{
    struct mz_log_format *f = mz_new0(MZ_MEM_CONFIG, struct mz_log_format);
    f->content_type = mz_strndup(MZ_MEM_CONFIG, m->content_type ? m->content_type : "",
                                 mz_str_c(m->content_type).n);
    if (formatters_check(m, err) && format_fill(m, f, err))
        return f;
    mz_log_format_destroy(f);
    return NULL;
}

struct mz_log_format *mz_log_format_create_text(struct mz_str text, struct mz_err *err)
{
    struct mz_format *text_format = mz_format_create(text, false, err);
    if (!text_format)
        return NULL;
    struct mz_log_format *f = mz_new0(MZ_MEM_CONFIG, struct mz_log_format);
    f->text = text_format;
    return f;
}

struct mz_log_format *mz_log_format_create_json(const pb_Struct *s, struct mz_err *err)
{
    struct mz_format_json *json = mz_format_json_create(s, false, true, err);
    if (!json)
        return NULL;
    struct mz_log_format *f = mz_new0(MZ_MEM_CONFIG, struct mz_log_format);
    f->json = json;
    return f;
}

void mz_log_format_destroy(struct mz_log_format *f)
{
    if (!f)
        return;
    mz_format_destroy(f->text);
    mz_format_json_destroy(f->json);
    mz_free(MZ_MEM_CONFIG, f->content_type);
    mz_free(MZ_MEM_CONFIG, f);
}

void mz_log_format_append(const struct mz_log_format *f, const struct mz_format_ctx *c,
                          struct mz_buf *out)
{
    if (f->text)
        mz_format_append(f->text, c, out);
    else
        mz_format_json_append(f->json, c, out);
}

size_t mz_log_format_line(const struct mz_log_format *f, const struct mz_format_ctx *c, char *mem,
                          size_t room, struct mz_buf *overflow)
{
    return f->text ? format_write(f->text, c, TEXT_LOG, mem, room, overflow)
                   : format_json_write(f->json, c, mem, room, overflow);
}

struct mz_str mz_log_format_content_type(const struct mz_log_format *f)
{
    if (f->content_type && f->content_type[0])
        return mz_str_c(f->content_type);
    return f->json ? MZ_STR("application/json") : MZ_STR("text/plain");
}

bool mz_log_format_is_json(const struct mz_log_format *f)
{
    return f->json != NULL;
}
