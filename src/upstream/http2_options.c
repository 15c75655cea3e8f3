#include "upstream/http2_options.h"
#include "proto/mapper.h"

enum { ID_TABLE_SIZE = 1, ID_PUSH = 2, ID_STREAMS = 3, ID_WINDOW = 4, ID_CONNECT = 8 };

static bool duration(const pb_Duration *d, const char *field, uint64_t *io_ms, struct mz_err *err)
{
    return mz_duration_ms(d, *io_ms, io_ms, err) ||
           mz_err_at(err, "connection_keepalive.%s", field);
}

static bool keepalive_build(const pb_KeepaliveSettings *k, struct mz_http2_opts *o,
                            struct mz_err *err)
{
    if (!k)
        return true;
    o->keepalive_jitter = k->interval_jitter ? k->interval_jitter->value : 15;
    return duration(k->interval, "interval", &o->keepalive_interval_ms, err) &&
           duration(k->timeout, "timeout", &o->keepalive_timeout_ms, err) &&
           duration(k->connection_idle_interval, "connection_idle_interval", &o->keepalive_idle_ms,
                    err);
}

/* A setting that has a field of its own is taken as if that were set; both at once are a contradiction. */
static bool custom_known(const pb_Http2ProtocolOptions *m, uint32_t id, uint32_t value,
                         struct mz_http2_opts *o, bool *out_known, struct mz_err *err)
{
    const struct {
        uint32_t id;
        uint32_t *to;
        bool named;
        const char *name;
    } known[] = {
        { ID_TABLE_SIZE, &o->hpack_table_size, m->hpack_table_size != NULL, "hpack_table_size" },
        { ID_STREAMS, &o->max_concurrent_streams, m->max_concurrent_streams != NULL,
          "max_concurrent_streams" },
        { ID_WINDOW, &o->stream_window, m->initial_stream_window_size != NULL,
          "initial_stream_window_size" },
    };
    if (id == ID_PUSH && value == 1)
        return mz_err_set(err, "server push is not supported");
    if (id == ID_CONNECT)
        return mz_err_set(err, "extended CONNECT is set by allow_connect only");
    for (size_t i = 0; i < MZ_COUNT(known); i++) {
        if (known[i].id != id)
            continue;
        if (known[i].named)
            return mz_err_set(err, "%s is set by its own field already", known[i].name);
        if (id == ID_WINDOW && value > INT32_MAX)
            return mz_err_set(err, "a window has at most 2147483647 bytes, is %u", value);
        *known[i].to = value;
        *out_known = true;
        return true;
    }
    *out_known = id == ID_PUSH; /* off in any case */
    return true;
}

/* Was @i's identifier given before? Then with the same value, or it is an error. */
static bool custom_again(const pb_Http2ProtocolOptions *m, size_t i, bool *out_again,
                         struct mz_err *err)
{
    const pb_Http2ProtocolOptions_SettingsParameter *const *v =
        (const pb_Http2ProtocolOptions_SettingsParameter *const *)m->custom_settings_parameters;
    for (size_t k = 0; k < i; k++) {
        if (v[k]->identifier->value != v[i]->identifier->value)
            continue;
        *out_again = true;
        return v[k]->value->value == v[i]->value->value ||
               mz_err_set(err, "identifier %u is given twice with different values",
                          v[i]->identifier->value);
    }
    return true;
}

static bool custom_build(const pb_Http2ProtocolOptions *m, struct mz_http2_opts *o,
                         void *(*keep)(void *arg, size_t n), void *arg, struct mz_err *err)
{
    if (!m->n_custom_settings_parameters)
        return true;
    uint32_t(*v)[2] = keep(arg, mz_mul(m->n_custom_settings_parameters, sizeof(*v)));
    o->settings = v;
    for (size_t i = 0; i < m->n_custom_settings_parameters; i++) {
        uint32_t id = m->custom_settings_parameters[i]->identifier->value,
                 value = m->custom_settings_parameters[i]->value->value;
        bool known = false, again = false;
        if (!custom_again(m, i, &again, err) ||
            (!again && !custom_known(m, id, value, o, &known, err)))
            return mz_err_at(err, "custom_settings_parameters[%zu]", i);
        if (known || again)
            continue;
        v[o->n_settings][0] = id;
        v[o->n_settings++][1] = value;
    }
    return true;
}

bool mz_http2_options_build(const pb_Http2ProtocolOptions *m, struct mz_http2_opts *o,
                            void *(*keep)(void *arg, size_t n), void *arg, struct mz_err *err)
{
    mz_http2_opts_init(o);
    if (!m)
        return true;
    o->hpack_table_size = mz_u32_or(m->hpack_table_size, o->hpack_table_size);
    o->max_concurrent_streams = mz_u32_or(m->max_concurrent_streams, o->max_concurrent_streams);
    o->stream_window = mz_u32_or(m->initial_stream_window_size, o->stream_window);
    o->connection_window = mz_u32_or(m->initial_connection_window_size, o->connection_window);
    o->allow_connect = m->allow_connect;
    o->override_stream_error = mz_bool_or(m->override_stream_error_on_invalid_http_message,
                                          m->stream_error_on_invalid_http_messaging);
    o->max_outbound_frames = mz_u32_or(m->max_outbound_frames, o->max_outbound_frames);
    o->max_outbound_control_frames =
        mz_u32_or(m->max_outbound_control_frames, o->max_outbound_control_frames);
    o->max_empty_frames =
        mz_u32_or(m->max_consecutive_inbound_frames_with_empty_payload, o->max_empty_frames);
    o->max_priority_per_stream =
        mz_u32_or(m->max_inbound_priority_frames_per_stream, o->max_priority_per_stream);
    o->max_window_updates_per_data = mz_u32_or(
        m->max_inbound_window_update_frames_per_data_frame_sent, o->max_window_updates_per_data);
    return keepalive_build(m->connection_keepalive, o, err) && custom_build(m, o, keep, arg, err);
}
