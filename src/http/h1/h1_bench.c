/* Instructions a message costs: perf stat -e instructions:u build/src/http/h1_bench [ROUNDS]; divide by the rounds. */
#include "http/h1/h1_trace.h"

#include <stdio.h>

static const char request[] =
    "GET /some/path?with=query HTTP/1.1\r\nHost: example.test\r\nUser-Agent: Mozilla/5.0 (X11; "
    "Linux x86_64)\r\n"
    "Accept: text/html,application/xhtml+xml\r\nAccept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nCookie: session=0123456789abcdef\r\n"
    "X-Request-Id: 7d0c9a52-6f5f-4d0c-9d8a-0f6f2f1c9b11\r\nX-Trace: 1\r\n\r\n";

static void quiet_headers(void *arg, struct mz_headers *h, bool end)
{
    struct trace *t = arg;
    struct mz_headers answer;
    struct mz_buf body;
    (void)h;
    (void)end;
    mz_headers_init(&answer, t->arena);
    mz_headers_set_status(&answer, 200);
    mz_headers_add_id(&answer, MZ_H_CONTENT_LENGTH, MZ_STR("2"));
    mz_headers_add_id(&answer, MZ_H_CONTENT_TYPE, MZ_STR("text/plain"));
    mz_headers_add_id(&answer, MZ_H_DATE, MZ_STR("Mon, 01 Jan 2001 00:00:00 GMT"));
    mz_headers_add_id(&answer, MZ_H_SERVER, MZ_STR("mizzen"));
    t->enc->ops->encode_headers(t->enc, &answer, false);
    mz_buf_init(&body);
    mz_buf_append_str(&body, MZ_STR("ok"));
    t->enc->ops->encode_data(t->enc, &body, true);
    mz_buf_fini(&body);
}

static const struct mz_stream_in_ops quiet_ops = { .on_headers = quiet_headers };

static void quiet_stream(void *arg, struct mz_stream_enc *enc, struct mz_stream_in *out_in)
{
    struct trace *t = arg;
    trace_new_arena(t);
    t->enc = enc;
    *out_in = (struct mz_stream_in){ &quiet_ops, t, t->arena };
}

int main(int argc, char **argv)
{
    static const struct mz_codec_server_ops ops = { .new_stream = quiet_stream };
    static const struct mz_http1_stats none = { .scope = NULL };
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 200000;
    struct trace t;
    trace_init(&t, false, trace_opts());
    struct mz_codec_sink sink = { &t.out, trace_written, trace_read_disable, &t, 0, false };
    struct mz_codec *c = mz_http1_server_create(&t.opts, &none, &sink, &ops, &t);
    for (long i = 0; i < rounds; i++) {
        mz_buf_append(&t.in, request, sizeof(request) - 1);
        (void)c->ops->dispatch(c, &t.in, false);
        mz_buf_drain(&t.out, t.out.len);
    }
    printf("%ld messages, %zu bytes of request each\n", rounds, sizeof(request) - 1);
    c->ops->destroy(c);
    trace_fini(&t);
    return 0;
}
