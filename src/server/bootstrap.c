/* Reading the bootstrap: -c, merged with --config-yaml, checked as a whole (P1). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "server/server.h"

#define FILE_MAX (256u << 20)

static bool file_read(struct mz_arena *a, const char *path, struct mz_str *out_text,
                      struct mz_err *err)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return mz_err_set(err, "unable to read file: %s: %s", path, strerrordesc_np(errno));
    struct mz_buf b;
    char chunk[65536];
    mz_buf_init(&b);
    for (size_t n; mz_buf_len(&b) < FILE_MAX && (n = fread(chunk, 1, sizeof(chunk), f)) > 0;)
        mz_buf_append(&b, chunk, n);
    bool ok = !ferror(f) && mz_buf_len(&b) < FILE_MAX;
    char *text = mz_arena_alloc(a, mz_buf_len(&b) + 1);
    *out_text = (struct mz_str){ text, mz_buf_copyout(&b, 0, text, mz_buf_len(&b)) };
    text[out_text->n] = '\0';
    mz_buf_fini(&b);
    fclose(f);
    return ok || mz_err_set(err, "unable to read file: %s", path);
}

static bool parse(struct mz_server *s, struct mz_str text, bool json, pb_Bootstrap **out_msg,
                  struct mz_err *err)
{
    ProtobufCMessage *m;
    if (!mz_msg_from_text(&s->proto, text, json ? MZ_TEXT_JSON : MZ_TEXT_YAML,
                          &pb_Bootstrap__descriptor, &m, err))
        return false;
    *out_msg = (pb_Bootstrap *)m;
    return true;
}

bool mz_bootstrap_read(struct mz_server *s, struct mz_err *err)
{
    const struct mz_options *o = &s->opts;
    pb_Bootstrap *file = NULL, *line = NULL;
    struct mz_str text;
    s->proto = (struct mz_proto_ctx){ .arena = s->load,
                                      .unknown = o->allow_unknown_static_fields ? MZ_UNKNOWN_COUNT
                                                                                : MZ_UNKNOWN_REJECT,
                                      .partial = o->config_yaml != NULL };
    if (!o->config_path && !o->config_yaml)
        return mz_err_set(err, "At least one of --config-path or --config-yaml or "
                               "Options::configProto() should be non-empty");
    if (o->config_path) {
        if (!file_read(s->load, o->config_path, &text, err))
            return false;
        if (!parse(s, text, mz_str_ends(mz_str_c(o->config_path), MZ_STR(".json")), &file, err))
            return false;
    }
    if (o->config_yaml) {
        if (!parse(s, mz_str_c(o->config_yaml), false, &line, err))
            return false;
        if (file)
            mz_msg_merge((ProtobufCMessage *)file, (ProtobufCMessage *)line, s->load);
        else
            file = line;
        if (!mz_msg_validate((ProtobufCMessage *)file, err))
            return false;
    }
    s->proto.partial = false;
    s->bootstrap = file;
    return true;
}

/* application_log_config: how our own lines look. */
bool mz_bootstrap_log(struct mz_server *s, struct mz_err *err)
{
    const pb_Bootstrap_ApplicationLogConfig *m = s->bootstrap->application_log_config;
    const pb_Bootstrap_ApplicationLogConfig_LogFormat *f = m ? m->log_format : NULL;
    if (!f ||
        f->log_format_case != pb_Bootstrap_ApplicationLogConfig_LogFormat_LOG_FORMAT_TEXT_FORMAT)
        return true;
    if (s->opts.log_format)
        return mz_err_set(err, "Only one of ApplicationLogConfig.log_format or CLI option "
                               "--log-format can be specified.");
    s->log_format = mz_log_set_format(f->text_format, err);
    return s->log_format || mz_err_at(err, "application_log_config.log_format.text_format");
}
