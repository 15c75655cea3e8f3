#include "observe/access_log.h"
#include "base/alloc.h"
#include "base/arena.h"
#include "observe/log_file.h"
#include "observe/log_filter.h"
#include "observe/substitution.h"
#include "proto/mapper.h"

struct mz_access_log {
    struct mz_log_filter *filter; /* NULL: every request */
    struct mz_log_format *format;
    struct mz_log_file *file;
    const struct mz_access_logger_type *other; /* of another folder: then neither format nor file */
    void *logger;
};

static struct mz_log_format *default_format(struct mz_err *err)
{
    return mz_log_format_create_text(mz_log_format_default, err);
}

static struct mz_log_format *format_of(const pb_SubstitutionFormatString *m, struct mz_err *err)
{
    if (!m)
        return default_format(err);
    struct mz_log_format *f = mz_log_format_create(m, err);
    if (!f)
        (void)mz_err_at(err, "log_format");
    return f;
}

static struct mz_log_format *file_format(const pb_FileAccessLog *m, struct mz_err *err)
{
    struct mz_log_format *f;
    switch (m->access_log_format_case) {
    case pb_FileAccessLog_ACCESS_LOG_FORMAT_FORMAT:
        f = m->format[0] ? mz_log_format_create_text(mz_str_c(m->format), err)
                         : default_format(err);
        return f ? f : (mz_err_at(err, "format"), NULL);
    case pb_FileAccessLog_ACCESS_LOG_FORMAT_JSON_FORMAT:
        f = mz_log_format_create_json(m->json_format, err);
        return f ? f : (mz_err_at(err, "json_format"), NULL);
    case pb_FileAccessLog_ACCESS_LOG_FORMAT_TYPED_JSON_FORMAT:
        f = mz_log_format_create_json(m->typed_json_format, err);
        return f ? f : (mz_err_at(err, "typed_json_format"), NULL);
    case pb_FileAccessLog_ACCESS_LOG_FORMAT_LOG_FORMAT:
        return format_of(m->log_format, err);
    default:
        return default_format(err);
    }
}

static bool build_file(const ProtobufCMessage *msg, struct mz_access_log *l,
                       struct mz_log_files *files, struct mz_err *err)
{
    const pb_FileAccessLog *m = (const void *)msg;
    l->format = file_format(m, err);
    if (!l->format)
        return false;
    l->file = mz_log_file_open(files, mz_str_c(m->path), err);
    return l->file || mz_err_at(err, "path");
}

static bool build_stream(const pb_SubstitutionFormatString *m, const char *path,
                         struct mz_access_log *l, struct mz_log_files *files, struct mz_err *err)
{
    l->format = format_of(m, err);
    l->file = l->format ? mz_log_file_open(files, mz_str_c(path), err) : NULL;
    return l->file != NULL;
}

static bool build_stdout(const ProtobufCMessage *msg, struct mz_access_log *l,
                         struct mz_log_files *files, struct mz_err *err)
{
    const pb_StdoutAccessLog *m = (const void *)msg;
    bool set = m->access_log_format_case == pb_StdoutAccessLog_ACCESS_LOG_FORMAT_LOG_FORMAT;
    return build_stream(set ? m->log_format : NULL, "/dev/stdout", l, files, err);
}

static bool build_stderr(const ProtobufCMessage *msg, struct mz_access_log *l,
                         struct mz_log_files *files, struct mz_err *err)
{
    const pb_StderrAccessLog *m = (const void *)msg;
    bool set = m->access_log_format_case == pb_StderrAccessLog_ACCESS_LOG_FORMAT_LOG_FORMAT;
    return build_stream(set ? m->log_format : NULL, "/dev/stderr", l, files, err);
}

/* Every access logger of this folder. */
static const struct logger {
    const ProtobufCMessageDescriptor *config;
    bool (*build)(const ProtobufCMessage *msg, struct mz_access_log *l, struct mz_log_files *files,
                  struct mz_err *err);
} loggers[] = {
    { &pb_FileAccessLog__descriptor, build_file },
    { &pb_StdoutAccessLog__descriptor, build_stdout },
    { &pb_StderrAccessLog__descriptor, build_stderr },
};

static const struct logger *logger_find(struct mz_str type)
{
    for (size_t i = 0; i < MZ_COUNT(loggers); i++)
        if (mz_str_eq(type, mz_str_c(loggers[i].config->name)))
            return &loggers[i];
    return NULL;
}

static bool logger_build(const pb_Any *any, struct mz_access_log *l, struct mz_log_files *files,
                         struct mz_arena *a, struct mz_err *err)
{
    if (!any)
        return mz_err_set(err, "is required");
    void *env;
    const struct logger *logger = logger_find(mz_any_type(any));
    l->other = logger ? NULL : mz_log_files_logger(files, mz_any_type(any), &env);
    if (!logger && !l->other)
        return mz_err_set(err, "no access logger has the configuration type \"" MZ_STR_FMT "\"",
                          MZ_STR_ARG(mz_any_type(any)));
    struct mz_proto_ctx ctx = { .arena = a,
                                .unknown = MZ_UNKNOWN_COUNT }; /* refused before where they are */
    ProtobufCMessage *msg;
    if (logger)
        return mz_any_unpack_as(&ctx, any, logger->config, &msg, err) &&
               logger->build(msg, l, files, err);
    if (!mz_any_unpack_as(&ctx, any, l->other->config, &msg, err))
        return false;
    l->logger = l->other->create(env, msg, err);
    return l->logger != NULL;
}

struct mz_access_log *mz_access_log_create(const pb_AccessLog *m, struct mz_log_files *files,
                                           struct mz_err *err)
{
    struct mz_access_log *l = mz_new0(MZ_MEM_CONFIG, struct mz_access_log);
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG); /* of the messages */
    bool ok = true;
    if (m->filter) {
        l->filter = mz_log_filter_create(m->filter, err);
        ok = l->filter || mz_err_at(err, "filter");
    }
    if (ok && !logger_build(m->typed_config, l, files, a, err))
        ok = mz_err_at(err, "typed_config");
    mz_arena_destroy(a);
    if (ok)
        return l;
    mz_access_log_destroy(l);
    return NULL;
}

void mz_access_log_destroy(struct mz_access_log *l)
{
    if (!l)
        return;
    mz_log_filter_destroy(l->filter);
    mz_log_format_destroy(l->format);
    if (l->file)
        mz_log_file_close(l->file);
    if (l->logger)
        l->other->destroy(l->logger);
    mz_free(MZ_MEM_CONFIG, l);
}

void mz_access_log_write(const struct mz_access_log *l, const struct mz_format_ctx *c)
{
    if (l->filter && !mz_log_filter_match(l->filter, c))
        return;
    if (l->other) {
        l->other->write(l->logger, c);
        return;
    }
    struct mz_buf longer; /* than what is left of the ring until its end */
    mz_buf_init(&longer);
    size_t room;
    char *at = mz_log_file_room(l->file, &room);
    size_t n = mz_log_format_line(l->format, c, at, room, &longer);
    if (MZ_LIKELY(!mz_buf_len(&longer))) {
        mz_log_file_wrote(l->file, n);
        return;
    }
    mz_log_file_write(l->file, &longer);
    mz_buf_fini(&longer);
}
