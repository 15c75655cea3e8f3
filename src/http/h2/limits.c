#include "http/h2/h2_priv.h"

/* What a peer may make us do without paying for it: Envoy's limits on frames, both ways (D01-D06). */

#define FREE_RESETS 200 /* RST_STREAM for faults of the peer, beyond one for every second stream */
#define BLOCK_SLACK                                                                                \
    16384 /* compressed bytes of a head that was refused, beyond twice the limit (D03) */

static bool flood(struct h2 *c, enum mz_http2_codec_stat stat, const char *details)
{
    h2_count(c, stat);
    h2_fail(c, details, NGHTTP2_ENHANCE_YOUR_CALM, true);
    return false;
}

static bool empty(struct h2 *c, bool is_empty)
{
    c->empty_frames = is_empty ? c->empty_frames + 1 : 0;
    if (c->empty_frames <= c->o->max_empty_frames)
        return true;
    return flood(c, MZ_H2S_EMPTY_FLOOD, "http2.inbound_empty_frames_flood");
}

bool h2_frame_begins_ok(struct h2 *c, const nghttp2_frame_hd *hd)
{
    bool end = hd->flags & NGHTTP2_FLAG_END_STREAM;
    switch (hd->type) {
    case NGHTTP2_HEADERS:
        c->block_bytes = hd->length;
        return empty(c, hd->length == 0 && !end);
    case NGHTTP2_CONTINUATION:
        c->block_bytes += hd->length;
        if (c->block_bytes > BLOCK_SLACK + 2 * (uint64_t)c->o->max_headers_kb * 1024)
            return flood(c, MZ_H2S_HEADER_OVERFLOW, "http2.header_block_too_large");
        return empty(c, hd->length == 0);
    case NGHTTP2_PRIORITY:
        if (++c->priority_frames <=
            (uint64_t)c->o->max_priority_per_stream * (1 + (uint64_t)c->opened_streams))
            return true;
        return flood(c, MZ_H2S_PRIORITY_FLOOD, "http2.inbound_priority_frames_flood");
    case NGHTTP2_WINDOW_UPDATE:
        if (++c->window_updates <=
            5 + 2 * ((uint64_t)c->opened_streams +
                     (uint64_t)c->o->max_window_updates_per_data * c->data_frames_sent))
            return true;
        return flood(c, MZ_H2S_WINDOW_UPDATE_FLOOD, "http2.inbound_window_update_frames_flood");
    default:
        return true;
    }
}

bool h2_frame_in_ok(struct h2 *c, const nghttp2_frame *f)
{
    if (f->hd.type != NGHTTP2_DATA)
        return true;
    bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    return empty(c, f->hd.length == f->data.padlen && !end);
}

/* Streams that we reset because of what the peer did cost as much as those that it resets (D02). */
bool h2_rst_out_ok(struct h2 *c, uint32_t code)
{
    if (h2_is_client(c) || code == NGHTTP2_NO_ERROR || code == NGHTTP2_CANCEL)
        return true;
    if (++c->resets_sent <= FREE_RESETS + c->opened_streams / 2)
        return true;
    return flood(c, MZ_H2S_OUTBOUND_CONTROL_FLOOD, "http2.outbound_control_frames_flood");
}

/* ---- frames that the peer has not read ---- */

static struct h2_range *range(struct h2 *c, unsigned i)
{
    return &c->ranges[(c->first_range + i) % H2_OUT_RANGES];
}

static void gauges(const struct h2 *c, int64_t frames, int64_t control)
{
    h2_gauge(c, MZ_H2S_OUTBOUND_ACTIVE, frames);
    h2_gauge(c, MZ_H2S_OUTBOUND_CONTROL_ACTIVE, control);
}

void h2_out_drained(struct h2 *c)
{
    uint64_t gone = c->out_pos - c->sink.out->len;
    while (c->n_ranges && range(c, 0)->end <= gone) {
        const struct h2_range *r = range(c, 0);
        c->out_frames -= r->frames;
        c->out_control -= r->control;
        gauges(c, -(int64_t)r->frames, -(int64_t)r->control);
        c->first_range = (uint8_t)((c->first_range + 1) % H2_OUT_RANGES);
        c->n_ranges--;
    }
}

void h2_out_forget(struct h2 *c)
{
    gauges(c, -(int64_t)c->out_frames, -(int64_t)c->out_control);
    c->out_frames = c->out_control = 0;
    c->n_ranges = 0;
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
    gauges(c, 1, control);
    if (c->out_frames <= c->o->max_outbound_frames &&
        c->out_control <= c->o->max_outbound_control_frames)
        return;
    h2_out_drained(c);
    if (c->out_frames > c->o->max_outbound_frames)
        (void)flood(c, MZ_H2S_OUTBOUND_FLOOD, "http2.outbound_frames_flood");
    else if (c->out_control > c->o->max_outbound_control_frames)
        (void)flood(c, MZ_H2S_OUTBOUND_CONTROL_FLOOD, "http2.outbound_control_frames_flood");
}
