#include "http/h2/h2_priv.h"

/* What a peer may make us do without paying for it: Envoy's limits on frames, both ways (D01-D06). */

#define FREE_RESETS 200  /* RST_STREAM for faults of the peer, beyond one for every second stream */
#define STRAY_BYTES 256  /* a DATA frame of padding alone is not longer */
#define STRAYS      1000 /* beyond one for each stream */
#define BY_RESET    0x80000000u /* in ended_ids: a client's ids have 31 bits */
#define BLOCK_SLACK                                                                                \
    16384 /* compressed bytes of a head that was refused, beyond twice the limit (D03) */

static bool flood(struct h2 *c, enum mz_http2_codec_stat stat, const char *details)
{
    if (!c->failed) /* its GOAWAY is a frame more */
        h2_count(c, stat);
    h2_fail(c, details, NGHTTP2_ENHANCE_YOUR_CALM, true);
    return false;
}

/* RST_STREAM that one side may cost the other. */
static uint32_t resets_free(const struct h2 *c)
{
    return FREE_RESETS + c->opened_streams / 2;
}

static bool empty(struct h2 *c, int32_t id, bool is_empty)
{
    c->empty_frames = is_empty ? c->empty_frames + 1 : 0;
    if (c->empty_frames <= c->o->max_empty_frames)
        return true;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(h2_ng(c), id);
    if (s)
        s->enc.details = "http2.inbound_empty_frames_flood";
    return flood(c, MZ_H2S_EMPTY_FLOOD, "http2.inbound_empty_frames_flood");
}

/* ---- stream ids (server) ---- */

void h2_stream_id_used(struct h2 *c, uint32_t id)
{
    if (id > c->last_id + 2) {
        uint32_t *r = c->skipped_ids[c->next_skipped++ % H2_SKIPPED_IDS];
        r[0] = c->last_id + 1;
        r[1] = id - 1;
    }
    c->last_id = id;
}

void h2_stream_id_ended(struct h2 *c, uint32_t id, bool by_reset)
{
    c->ended_ids[c->next_ended++ % H2_ENDED_IDS] = by_reset ? id | BY_RESET : id;
}

static bool was_ended(const struct h2 *c, uint32_t id)
{
    for (unsigned i = 0; i < H2_ENDED_IDS; i++)
        if (c->ended_ids[i] == id)
            return true;
    return false;
}

static bool was_skipped(const struct h2 *c, uint32_t id)
{
    for (unsigned i = 0; i < H2_SKIPPED_IDS; i++)
        if (id >= c->skipped_ids[i][0] && id <= c->skipped_ids[i][1])
            return true;
    return false;
}

/* HEADERS and DATA on a stream that is gone: nothing when we ended it, an error of the stream when the peer has reset it (RFC 9113
 * 5.1; Go's client lets a rest of the body follow its RST_STREAM), else one of the connection. Many small frames for nothing
 * are a flood. */
static bool gone_ok(struct h2 *c, uint32_t id, size_t length, uint8_t flags)
{
    const struct h2_stream *s = nghttp2_session_get_stream_user_data(h2_ng(c), (int32_t)id);
    bool reset = s ? s->peer_reset : was_ended(c, id | BY_RESET);
    bool ended = !reset && (s || was_ended(c, id)); /* is_gone(): the peer has ended it */
    if (ended || was_skipped(c, id)) {
        h2_fail(c, "http2.stream_closed", ended ? NGHTTP2_STREAM_CLOSED : NGHTTP2_PROTOCOL_ERROR,
                false);
        return false;
    }
    if (reset && c->resets_sent < resets_free(c))
        (void)nghttp2_submit_rst_stream(h2_ng(c), NGHTTP2_FLAG_NONE, (int32_t)id,
                                        NGHTTP2_STREAM_CLOSED);
    if (!reset && (flags & NGHTTP2_FLAG_END_STREAM))
        h2_stream_id_ended(c, id, false);
    if (length > STRAY_BYTES || ++c->strays <= STRAYS + c->opened_streams)
        return true;
    return flood(c, MZ_H2S_EMPTY_FLOOD, "http2.inbound_empty_frames_flood");
}

static bool is_gone(struct h2 *c, uint32_t id)
{
    if (c->client || id == 0 || id > c->last_id || id % 2 == 0)
        return false;
    const struct h2_stream *s = nghttp2_session_get_stream_user_data(h2_ng(c), (int32_t)id);
    return !s || s->peer_ended;
}

static uint32_t head_id(const uint8_t *h)
{
    return ((uint32_t)h[5] << 24 | (uint32_t)h[6] << 16 | (uint32_t)h[7] << 8 | h[8]) & INT32_MAX;
}

bool h2_is_stray(struct h2 *c, const uint8_t *h)
{
    uint32_t id = head_id(h);
    return id > c->last_id ||
           is_gone(c, id); /* the first: what opens it may stand before it in the same input */
}

bool h2_stray_ok(struct h2 *c, const uint8_t *h)
{
    uint32_t id = head_id(h);
    return !is_gone(c, id) || gone_ok(c, id, (size_t)h[0] << 16 | (size_t)h[1] << 8 | h[2], h[4]);
}

/* ---- frames that come in ---- */

bool h2_frame_begins_ok(struct h2 *c, const nghttp2_frame_hd *hd)
{
    if (hd->type == NGHTTP2_HEADERS && is_gone(c, (uint32_t)hd->stream_id) &&
        !gone_ok(c, (uint32_t)hd->stream_id, hd->length, hd->flags))
        return false;
    bool end = hd->flags & NGHTTP2_FLAG_END_STREAM;
    switch (hd->type) {
    case NGHTTP2_HEADERS:
        c->block_bytes = hd->length;
        return empty(c, hd->stream_id, hd->length == 0 && !end);
    case NGHTTP2_CONTINUATION:
        c->block_bytes += hd->length;
        if (c->block_bytes > BLOCK_SLACK + 2 * (uint64_t)c->o->max_headers_kb * 1024)
            return flood(c, MZ_H2S_LIST_TOO_LARGE, "http2.header_block_too_large");
        return empty(c, hd->stream_id, hd->length == 0);
    case NGHTTP2_PRIORITY:
        if (++c->priority_frames <=
            (uint64_t)c->o->max_priority_per_stream * (1 + (uint64_t)c->opened_streams))
            return true;
        return flood(c, MZ_H2S_PRIORITY_FLOOD, "Too_many_PRIORITY_frames");
    case NGHTTP2_WINDOW_UPDATE:
        if (++c->window_updates <=
            5 + 2 * ((uint64_t)c->opened_streams +
                     (uint64_t)c->o->max_window_updates_per_data * c->data_frames_sent))
            return true;
        return flood(c, MZ_H2S_WINDOW_UPDATE_FLOOD, "Too_many_WINDOW_UPDATE_frames");
    default:
        return true;
    }
}

bool h2_frame_in_ok(struct h2 *c, const nghttp2_frame *f)
{
    if (f->hd.type != NGHTTP2_DATA)
        return true;
    bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    return empty(c, f->hd.stream_id, f->hd.length == f->data.padlen && !end);
}

void h2_rst_in(struct h2 *c, bool premature)
{
    c->resets_got += premature;
    if (!h2_is_client(c) && c->resets_got > resets_free(c))
        h2_fail(c, "too_many_premature_resets", NGHTTP2_ENHANCE_YOUR_CALM, true);
}

/* Streams that we reset because of what the peer did cost as much as those that it resets (D02). */
bool h2_rst_out_ok(struct h2 *c, uint32_t code)
{
    if (h2_is_client(c) || code == NGHTTP2_NO_ERROR || code == NGHTTP2_CANCEL)
        return true;
    if (++c->resets_sent <= resets_free(c))
        return true;
    return flood(c, MZ_H2S_OUTBOUND_CONTROL_FLOOD, "http2.outbound_control_frames_flood");
}

/* ---- frames that the peer has not read ---- */

static struct h2_range *range(struct h2 *c, unsigned i)
{
    return &c->ranges[(c->first_range + i) % H2_OUT_RANGES];
}

void h2_out_tell(struct h2 *c)
{
    h2_gauge(c, MZ_H2S_OUTBOUND_ACTIVE, (int64_t)c->out_frames - c->told_frames);
    h2_gauge(c, MZ_H2S_OUTBOUND_CONTROL_ACTIVE, (int64_t)c->out_control - c->told_control);
    c->told_frames = c->out_frames;
    c->told_control = c->out_control;
}

void h2_out_drained(struct h2 *c)
{
    uint64_t gone = c->out_pos - c->sink.out->len;
    while (c->n_ranges && range(c, 0)->end <= gone) {
        const struct h2_range *r = range(c, 0);
        c->out_frames -= r->frames;
        c->out_control -= r->control;
        c->first_range = (uint8_t)((c->first_range + 1) % H2_OUT_RANGES);
        c->n_ranges--;
    }
}

void h2_out_forget(struct h2 *c)
{
    c->out_frames = c->out_control = 0;
    c->n_ranges = 0;
    h2_out_tell(c);
}

static bool is_control(uint8_t type)
{
    return type == NGHTTP2_SETTINGS || type == NGHTTP2_PING || type == NGHTTP2_RST_STREAM;
}

/* A range takes an eighth of a limit: so exactly is known which frames have left. */
static bool range_full(const struct h2 *c, const struct h2_range *r)
{
    return r->frames > c->o->max_outbound_frames / H2_OUT_RANGES ||
           r->control > c->o->max_outbound_control_frames / H2_OUT_RANGES;
}

void h2_frame_out(struct h2 *c, uint8_t type, size_t bytes)
{
    bool control = is_control(type);
    c->out_pos += bytes;
    if (c->n_ranges == 0 ||
        (range_full(c, range(c, c->n_ranges - 1u)) && c->n_ranges < H2_OUT_RANGES))
        *range(c, c->n_ranges++) = (struct h2_range){ .end = 0 };
    struct h2_range *r = range(c, c->n_ranges - 1u);
    r->end = c->out_pos;
    r->frames++;
    r->control += control;
    c->out_frames++;
    c->out_control += control;
    if (c->out_frames <= c->o->max_outbound_frames &&
        c->out_control <= c->o->max_outbound_control_frames)
        return;
    h2_out_drained(c);
    if (c->out_frames > c->o->max_outbound_frames)
        (void)flood(c, MZ_H2S_OUTBOUND_FLOOD, "http2.outbound_frames_flood");
    else if (c->out_control > c->o->max_outbound_control_frames)
        (void)flood(c, MZ_H2S_OUTBOUND_CONTROL_FLOOD, "http2.outbound_control_frames_flood");
}
