#include "base/test.h"

#include "base/clock.h"

#include "hcm/hcm_test.h"

/*
 * The chain (H6), played by scripts. Filters 0, 1, 2 write down what they are called with and answer as told.
 *
 * What filters answer: "1H=S 1D=BC 2<D=Kr": filter 1 stops at request headers; keeps its first piece of body, continues
 * with those after it; ... Letters: C continue, S STOP, K STOP_AND_BUFFER (keep), W STOP_AND_WATERMARK; the last one stays.
 * Small letters do something inside the callback first: c, k continue request, answer; l local reply; r reset;
 * d add body to the request, D is for answers: a; t add trailers to the answer; i inject into the request; x clear the route
 * cache; e begin anew.
 *
 * What happens: H, D(text), T of the request, with $ where it ends; <H, <D(text), <T of the answer; c1, k1 filter 1 continues
 * from outside; rst the client resets; L local reply from outside.
 */
#define N_FILTERS 3
enum event { REQ_H, REQ_D, REQ_T, RESP_H, RESP_D, RESP_T, N_EVENTS };
static const char *const event_names[] = { "H", "D", "T", "<H", "<D", "<T" };

struct step {
    enum mz_flow flow;
    char actions[4];
};
struct script { /* of one filter; its configuration */
    struct fixture *fx;
    struct step steps[N_EVENTS][4];
    unsigned n[N_EVENTS], at[N_EVENTS];
    bool quiet; /* says nothing about watermarks and its end */
};
struct fake {
    struct mz_filter base;
};

/* ---- actions inside callbacks ---- */

static void reply(struct mz_stream *s)
{
    mz_stream_local_reply(
        s, &(struct mz_local_reply){ .status = 418, .body = MZ_STR("no"), .details = "test" });
}

static void with_buf(struct mz_filter *f, const char *text,
                     void (*fn)(struct mz_filter *f, struct mz_buf *take, bool last))
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append_str(&b, mz_str_c(text));
    fn(f, &b, false);
    mz_buf_fini(&b);
}

static void begin_anew(struct mz_filter *f)
{
    struct mz_buf none;
    mz_buf_init(&none);
    mz_stream_recreate(f->stream, NULL, &none, NULL);
}

static void act(struct mz_filter *f, char what)
{
    switch (what) {
    case 'c':
        mz_filter_continue_request(f);
        break;
    case 'k':
        mz_filter_continue_response(f);
        break;
    case 'l':
        reply(f->stream);
        break;
    case 'r':
        mz_stream_reset(f->stream, "test");
        break;
    case 'd':
        with_buf(f, "+", mz_filter_add_request_data);
        break;
    case 'a':
        with_buf(f, "+", mz_filter_add_response_data);
        break;
    case 'i':
        with_buf(f, "*", mz_filter_inject_request_data);
        break;
    case 't':
        mz_filter_add_response_trailers(f);
        break;
    case 'x':
        mz_stream_clear_route_cache(f->stream);
        break;
    case 'e':
        begin_anew(f);
        break;
    default:
        fail_msg("no action %c", what);
    }
}

static enum mz_flow play(struct mz_filter *f, enum event e)
{
    struct script *c = (struct script *)(uintptr_t)f->cfg;
    if (c->n[e] == 0)
        return MZ_FLOW_CONTINUE;
    const struct step *s = &c->steps[e][c->at[e]];
    if (c->at[e] + 1 < c->n[e])
        c->at[e]++;
    for (const char *a = s->actions; *a; a++)
        act(f, *a);
    return s->flow;
}

/* ---- the filters ---- */

static struct mz_buf *trace_of(struct mz_filter *f)
{
    return &((const struct script *)f->cfg)->fx->trace;
}

static enum mz_flow at_headers(struct mz_filter *f, enum event e, bool end)
{
    mz_buf_printf(trace_of(f), "%u%s%s ", f->index, event_names[e], end ? "$" : "");
    return play(f, e);
}

static enum mz_flow at_data(struct mz_filter *f, enum event e, struct mz_buf *data, bool end)
{
    char text[64] = "";
    mz_buf_copyout(data, 0, text, mz_buf_len(data) < 63 ? mz_buf_len(data) : 63);
    mz_buf_printf(trace_of(f), "%u%s(%s)%s ", f->index, event_names[e], text, end ? "$" : "");
    return play(f, e);
}

static enum mz_flow req_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h;
    return at_headers(f, REQ_H, end);
}
static enum mz_flow req_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    return at_data(f, REQ_D, data, end);
}
static enum mz_flow req_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    return at_headers(f, REQ_T, false);
}
static enum mz_flow resp_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h;
    return at_headers(f, RESP_H, end);
}
static enum mz_flow resp_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    return at_data(f, RESP_D, data, end);
}
static enum mz_flow resp_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    return at_headers(f, RESP_T, false);
}
static void above(struct mz_filter *f)
{
    if (f->index == N_FILTERS - 1)
        mz_buf_printf(trace_of(f), "2^ ");
}
static void below(struct mz_filter *f)
{
    if (f->index == N_FILTERS - 1)
        mz_buf_printf(trace_of(f), "2v ");
}
static void destroyed(struct mz_filter *f)
{
    if (f->index == 0)
        mz_buf_printf(trace_of(f), "~ ");
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)msg, (void)f, (void)err;
    return mz_alloc0(MZ_MEM_CONFIG, 1);
}
static void config_destroy(void *cfg)
{
    mz_free(MZ_MEM_CONFIG, cfg);
}
static const struct mz_http_filter_type fake_type = {
    .name = "fake",
    .config_type = "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    .size = sizeof(struct fake),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_request_headers = req_headers,
    .on_request_data = req_data,
    .on_request_trailers = req_trailers,
    .on_response_headers = resp_headers,
    .on_response_data = resp_data,
    .on_response_trailers = resp_trailers,
    .on_downstream_above_high = above,
    .on_downstream_below_low = below,
    .on_destroy = destroyed,
};

/* ---- scripts ---- */

static enum mz_flow flow_of(char c)
{
    static const char letters[] = "CSKW";
    const char *p = strchr(letters, c);
    assert_non_null(p);
    return (enum mz_flow)(p - letters);
}

static void script_line(struct script *scripts, struct mz_str t)
{
    struct script *c = &scripts[t.p[0] - '0'];
    ptrdiff_t eq = mz_str_chr(t, '=');
    enum event e = REQ_H;
    while (!mz_str_eq(mz_str_c(event_names[e]), (struct mz_str){ t.p + 1, (size_t)eq - 1 }))
        e++;
    for (size_t i = (size_t)eq + 1; i < t.n;) {
        struct step *s = &c->steps[e][c->n[e]++];
        s->flow = flow_of(t.p[i++]);
        for (unsigned k = 0; i < t.n && t.p[i] >= 'a'; k++)
            s->actions[k] = t.p[i++];
    }
}

static void happen_body(struct fixture *f, struct mz_str t, bool answer, bool end)
{
    struct mz_buf b;
    mz_buf_init(&b);
    ptrdiff_t from = mz_str_chr(t, '(') + 1, to = mz_str_chr(t, ')');
    mz_buf_append(&b, t.p + from, (size_t)(to - from));
    if (answer)
        mz_stream_respond_data(f->stream, &b, end);
    else
        f->in.ops->on_data(f->in.arg, &b, end);
    mz_buf_fini(&b);
}

static void happen_answer(struct fixture *f, struct mz_str t, bool end)
{
    struct mz_headers *h = mz_headers_create(f->stream->arena);
    if (t.p[1] == 'H') {
        mz_headers_set_status(h, 200);
        mz_stream_respond_headers(f->stream, h, end);
    } else if (t.p[1] == 'D') {
        happen_body(f, t, true, end);
    } else {
        mz_stream_respond_trailers(f->stream, h);
    }
}

static void happen(struct fixture *f, struct mz_str t)
{
    bool end = t.p[t.n - 1] == '$';
    switch (t.p[0]) {
    case '<':
        happen_answer(f, t, end);
        break;
    case 'H':
        fixture_request(f, "", end);
        break;
    case 'D':
        happen_body(f, t, false, end);
        break;
    case 'T':
        f->in.ops->on_trailers(f->in.arg, mz_headers_create(f->stream->arena));
        break;
    case 'c':
        mz_filter_continue_request(f->stream->filters[t.p[1] - '0']);
        break;
    case 'k':
        mz_filter_continue_response(f->stream->filters[t.p[1] - '0']);
        break;
    case 'L':
        reply(f->stream);
        break;
    case 'r':
        f->in.ops->on_reset(f->in.arg, MZ_RESET_REMOTE, NULL);
        break;
    default:
        fail_msg("nothing happens at " MZ_STR_FMT, MZ_STR_ARG(t));
    }
}

static struct mz_str next_word(struct mz_str *rest)
{
    struct mz_str w = { 0 };
    while (w.n == 0 && mz_str_split(rest, ' ', &w))
        continue;
    return w;
}

static void with_filters(struct fixture *f, struct script *scripts, struct filter_entry *entries)
{
    static const char *const names[N_FILTERS] = { "zero", "one", "two" };
    for (unsigned i = 0; i < N_FILTERS; i++) {
        scripts[i].fx = f;
        entries[i] = (struct filter_entry){ .type = &fake_type,
                                            .cfg = &scripts[i],
                                            .name = mz_str_c(names[i]) };
    }
    f->cfg.filters = (struct filter_list){ .v = entries, .n = N_FILTERS };
    chain_prepare(&f->cfg.filters);
}

struct scripted {
    const char *answers, *happens, *trace;
};

static bool play_case(const struct scripted *c, uint32_t limit)
{
    struct fixture f;
    struct script scripts[N_FILTERS] = { 0 };
    struct filter_entry entries[N_FILTERS];
    fixture_init(&f);
    with_filters(&f, scripts, entries);
    mz_watermark_init(&f.conn.out_wm, limit);
    struct mz_str rest = mz_str_c(c->answers);
    for (struct mz_str w = next_word(&rest); w.n; w = next_word(&rest))
        script_line(scripts, w);
    fixture_stream(&f);
    rest = mz_str_c(c->happens);
    for (struct mz_str w = next_word(&rest); w.n; w = next_word(&rest))
        happen(&f, w);
    const char *got = fixture_trace(&f);
    bool same = strcmp(got, c->trace) == 0;
    if (!same)
        print_error("%s | %s\n  expected %s\n  got      %s\n", c->answers, c->happens, c->trace,
                    got);
    fixture_fini(&f);
    return same;
}

static void play_all(const struct scripted *v, size_t n, uint32_t limit)
{
    unsigned failed = 0;
    for (size_t i = 0; i < n; i++)
        failed += !play_case(&v[i], limit);
    assert_int_equal(failed, 0);
}

/* clang-format off */
static const struct scripted requests[] = {
    /* nobody stops */
    { "", "H$", "0H$ 1H$ 2H$" },
    { "", "H D(a) D(b)$", "0H 1H 2H 0D(a) 1D(a) 2D(a) 0D(b)$ 1D(b)$ 2D(b)$" },
    { "", "H D(a) T", "0H 1H 2H 0D(a) 1D(a) 2D(a) 0T 1T 2T" },
    { "", "H T", "0H 1H 2H 0T 1T 2T" },
    /* headers: STOP, data still comes to the filter */
    { "1H=S", "H$ c1", "0H$ 1H$ 2H$" },
    { "1H=S 1D=K", "H D(a) D(b)$ c1", "0H 1H 0D(a) 1D(a) 0D(b)$ 1D(b)$ 2H 2D(ab)$" },
    { "1H=S 1D=KC", "H D(a) D(b) D(c)$", "0H 1H 0D(a) 1D(a) 0D(b) 1D(b) 2H 2D(ab) 0D(c)$ 1D(c)$ 2D(c)$" },
    { "1H=S 1D=K", "H D(a) c1 D(b)$ c1", "0H 1H 0D(a) 1D(a) 2H 2D(a) 0D(b)$ 1D(b)$ 2D(b)$" },
    { "1H=S 1D=K", "H D(a) T", "0H 1H 0D(a) 1D(a) 0T 1T 2H 2D(a) 2T" },
    { "1H=S 1D=K 1T=S", "H D(a) T c1", "0H 1H 0D(a) 1D(a) 0T 1T 2H 2D(a) 2T" },
    { "1H=S 1D=S", "H D(a) D(b)$ c1", "0H 1H 0D(a) 1D(a) 0D(b)$ 1D(b)$ 2H 2D()$" },
    { "1H=S", "H D(a)$", "0H 1H 0D(a)$ 1D(a)$ 2H 2D(a)$" },
    /* headers: stop all; the filter sees the body when it goes on */
    { "1H=K", "H D(a) D(b)$ c1", "0H 1H 0D(a) 0D(b)$ 2H 1D(ab)$ 2D(ab)$" },
    { "1H=W", "H D(a) D(b)$ c1", "0H 1H 0D(a) 0D(b)$ 2H 1D(ab)$ 2D(ab)$" },
    { "1H=K", "H D(a) c1 D(b)$", "0H 1H 0D(a) 2H 1D(a) 2D(a) 0D(b)$ 1D(b)$ 2D(b)$" },
    { "1H=K", "H D(a) T c1", "0H 1H 0D(a) 0T 2H 1D(a) 2D(a) 1T 2T" },
    { "1H=K", "H T c1", "0H 1H 0T 2H 1T 2T" },
    { "1H=K 1D=K", "H D(a) c1 D(b)$ c1", "0H 1H 0D(a) 2H 1D(a) 0D(b)$ 1D(b)$ 2D(ab)$" },
    { "1H=K", "H$ c1", "0H$ 1H$ 2H$" },
    { "0H=K 1H=K", "H D(a)$ c0 c1", "0H 1H 0D(a)$ 2H 1D(a)$ 2D(a)$" },
    { "0H=W 1H=S 1D=K", "H D(a)$ c0 c1", "0H 1H 0D(a)$ 1D(a)$ 2H 2D(a)$" },
    /* data */
    { "1D=K", "H D(a) D(b)$ c1", "0H 1H 2H 0D(a) 1D(a) 0D(b)$ 1D(b)$ 2D(ab)$" },
    { "1D=W", "H D(a) D(b)$ c1", "0H 1H 2H 0D(a) 1D(a) 0D(b)$ 1D(b)$ 2D(ab)$" },
    { "1D=S", "H D(a) D(b)$ c1", "0H 1H 2H 0D(a) 1D(a) 0D(b)$ 1D(b)$ 2D()$" },
    { "1D=KC", "H D(a) D(b)$", "0H 1H 2H 0D(a) 1D(a) 0D(b)$ 1D(b)$ 2D(ab)$" },
    { "1D=K", "H D(a) T", "0H 1H 2H 0D(a) 1D(a) 0T 1T 2D(a) 2T" },
    { "1D=K 1T=S", "H D(a) T c1", "0H 1H 2H 0D(a) 1D(a) 0T 1T 2D(a) 2T" },
    { "0D=K 1D=K", "H D(a)$ c0 c1", "0H 1H 2H 0D(a)$ 1D(a)$ 2D(a)$" },
    /* trailers */
    { "1T=S", "H D(a) T c1", "0H 1H 2H 0D(a) 1D(a) 2D(a) 0T 1T 2T" },
    { "0T=S 1T=S", "H T c0 c1", "0H 1H 2H 0T 1T 2T" },
    /* continuing without having stopped, twice, or before the body */
    { "", "H c1 D(a)$ c1", "0H 1H 2H 0D(a)$ 1D(a)$ 2D(a)$" },
    { "1H=S", "H$ c1 c1 c0", "0H$ 1H$ 2H$" },
    /* continuing inside of callbacks */
    { "0H=S 1D=K", "H D(a)$ c1", "0H 0D(a)$ 1H 2H 1D(a)$ 2D(a)$" },
    { "1H=S 1D=Kc", "H D(a)$ c1", "0H 1H 0D(a)$ 1D(a)$ 2H 2D(a)$" },
    { "1H=S 1D=Cc", "H D(a)$", "0H 1H 0D(a)$ 1D(a)$ 2H 2D(a)$" },
    { "1H=Sc", "H$ c1", "0H$ 1H$ 2H$" },
    /* adding body */
    { "1H=Cd", "H$", "0H$ 1H$ 2H 2D(+)$" },
    { "1H=Sd", "H$ c1", "0H$ 1H$ 2H 2D(+)$" },
    { "0H=Cd 1H=S 1D=K", "H$ c1", "0H$ 1H 1D(+)$ 2H 2D(+)$" },
    { "0H=Cd 1H=W", "H$ c1", "0H$ 1H 2H 1D(+)$ 2D(+)$" },
    { "1H=Cd 2H=S 2D=S", "H$", "0H$ 1H$ 2H 2D(+)$" },
    { "1T=Cd", "H D(a) T", "0H 1H 2H 0D(a) 1D(a) 2D(a) 0T 1T 2D(+) 2T" },
    { "1T=Sd", "H D(a) T c1", "0H 1H 2H 0D(a) 1D(a) 2D(a) 0T 1T 2D(+) 2T" },
    { "1D=Kd", "H D(a)$ c1", "0H 1H 2H 0D(a)$ 1D(a)$ 2D(+a)$" },
    { "1D=Si", "H D(a)$ c1", "0H 1H 2H 0D(a)$ 1D(a)$ 2D(*) 2D()$" },
};
static const struct scripted answers[] = {
    { "", "H$ <H$", "0H$ 1H$ 2H$ 2<H$ 1<H$ 0<H$ =H200$ ~" },
    { "", "H$ <H <D(a) <D(b)$", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<D(a) 1<D(a) 0<D(a) =D(a) 2<D(b)$ 1<D(b)$ 0<D(b)$ =D(b)$ ~" },
    { "", "H$ <H <D(a) <T", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<D(a) 1<D(a) 0<D(a) =D(a) 2<T 1<T 0<T =T$ ~" },
    { "1<H=S", "H$ <H$ k1", "0H$ 1H$ 2H$ 2<H$ 1<H$ 0<H$ =H200$ ~" },
    { "1<H=S 1<D=K", "H$ <H <D(a) <D(b)$ k1", "0H$ 1H$ 2H$ 2<H 1<H 2<D(a) 1<D(a) 2<D(b)$ 1<D(b)$ 0<H =H200 0<D(ab)$ =D(ab)$ ~" },
    { "1<H=S 1<D=KC", "H$ <H <D(a) <D(b)$", "0H$ 1H$ 2H$ 2<H 1<H 2<D(a) 1<D(a) 2<D(b)$ 1<D(b)$ 0<H =H200 0<D(ab)$ =D(ab)$ ~" },
    { "1<H=K", "H$ <H <D(a)$ k1", "0H$ 1H$ 2H$ 2<H 1<H 2<D(a)$ 0<H =H200 1<D(a)$ 0<D(a)$ =D(a)$ ~" },
    { "1<H=W", "H$ <H <D(a) <T k1", "0H$ 1H$ 2H$ 2<H 1<H 2<D(a) 2<T 0<H =H200 1<D(a) 0<D(a) =D(a) 1<T 0<T =T$ ~" },
    { "1<D=K", "H$ <H <D(a) <D(b)$ k1", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<D(a) 1<D(a) 2<D(b)$ 1<D(b)$ 0<D(ab)$ =D(ab)$ ~" },
    { "1<D=S", "H$ <H <D(a)$ k1", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<D(a)$ 1<D(a)$ 0<D()$ =D()$ ~" },
    { "1<T=S", "H$ <H <T k1", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<T 1<T 0<T =T$ ~" },
    { "1<D=K", "H$ <H <D(a) <T", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<D(a) 1<D(a) 2<T 1<T 0<D(a) =D(a) 0<T =T$ ~" },
    { "1<H=Ca 0<H=S 0<D=K", "H$ <H$ k0", "0H$ 1H$ 2H$ 2<H$ 1<H$ 0<H 0<D(+)$ =H200 =D(+)$ ~" },
    { "1<H=Ca", "H$ <H$", "0H$ 1H$ 2H$ 2<H$ 1<H$ 0<H =H200 0<D(+)$ =D(+)$ ~" },
    { "1<D=Ct", "H$ <H <D(a)$", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<D(a)$ 1<D(a)$ 0<D(a) =D(a) 0<T =T$ ~" },
    /* the answer is whole before the request: HTTP/2 resets the rest */
    { "", "H <H$", "0H 1H 2H 2<H$ 1<H$ 0<H$ =H200$ =reset ~" },
    /* the request waits, the answer does not */
    { "0D=K", "H D(a) <H D(b)$ <D(x)$", "0H 1H 2H 0D(a) 2<H 1<H 0<H =H200 0D(b)$ 2<D(x)$ 1<D(x)$ 0<D(x)$ =D(x)$ ~" },
};
static const struct scripted ends[] = {
    /* a local reply from each callback; the request goes no further */
    { "0H=Sl", "H$", "0H$ 2<H 1<H 0<H =H418 2<D(no)$ 1<D(no)$ 0<D(no)$ =D(no)$ ~" },
    { "1H=Sl", "H D(a)$", "0H 1H 2<H 1<H 0<H =H418 2<D(no)$ 1<D(no)$ 0<D(no)$ =D(no)$ =reset ~" },
    { "1D=Sl", "H D(a)$", "0H 1H 2H 0D(a)$ 1D(a)$ 2<H 1<H 0<H =H418 2<D(no)$ 1<D(no)$ 0<D(no)$ =D(no)$ ~" },
    { "1T=Sl", "H T", "0H 1H 2H 0T 1T 2<H 1<H 0<H =H418 2<D(no)$ 1<D(no)$ 0<D(no)$ =D(no)$ ~" },
    { "1H=Cl", "H$", "0H$ 1H$ 2<H 1<H 0<H =H418 2<D(no)$ 1<D(no)$ 0<D(no)$ =D(no)$ ~" },
    /* while filters hold an answer: it is replaced past them */
    { "1<H=S", "H$ <H L", "0H$ 1H$ 2H$ 2<H 1<H =H418 =D(no)$ ~" },
    { "1<H=Sl", "H$ <H", "0H$ 1H$ 2H$ 2<H 1<H =H418 =D(no)$ ~" },
    { "1<H=Cl", "H$ <H$", "0H$ 1H$ 2H$ 2<H$ 1<H$ =H418 =D(no)$ ~" },
    { "1<H=S 1<D=Sl", "H$ <H <D(a)", "0H$ 1H$ 2H$ 2<H 1<H 2<D(a) 1<D(a) =H418 =D(no)$ ~" },
    /* after the answer's head left: a reset */
    { "1<D=Sl", "H$ <H <D(a)", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<D(a) 1<D(a) =reset ~" },
    { "1<T=Sl", "H$ <H <T", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<T 1<T =reset ~" },
    { "", "H$ <H L", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 =reset ~" },
    /* from outside, while the request waits */
    { "1H=S", "H$ L", "0H$ 1H$ 2<H 1<H 0<H =H418 2<D(no)$ 1<D(no)$ 0<D(no)$ =D(no)$ ~" },
    { "1H=W 1<H=S", "H D(a) L k1", "0H 1H 0D(a) 2<H 1<H 2<D(no)$ 1<D(no)$ 0<H =H418 0<D(no)$ =D(no)$ =reset ~" },
    /* resets from each callback */
    { "0H=Sr", "H$", "0H$ =reset ~" },
    { "1H=Cr", "H D(a)", "0H 1H =reset ~" },
    { "1D=Cr", "H D(a)$", "0H 1H 2H 0D(a)$ 1D(a)$ =reset ~" },
    { "1T=Cr", "H T", "0H 1H 2H 0T 1T =reset ~" },
    { "1<H=Cr", "H$ <H$", "0H$ 1H$ 2H$ 2<H$ 1<H$ =reset ~" },
    { "1<D=Cr", "H$ <H <D(a)$", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<D(a)$ 1<D(a)$ =reset ~" },
    { "1<T=Cr", "H$ <H <T", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<T 1<T =reset ~" },
    /* the client resets: filters end once, the codec hears nothing */
    { "1H=S", "H rst", "0H 1H ~" },
    { "", "H$ <H rst", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 ~" },
};
static const struct scripted limits[] = { /* of 4 bytes */
    { "1H=K", "H D(abc) D(de)", "0H 1H 0D(abc) 0D(de) 2<H 1<H 0<H =H413 2<D(Payload Too Large)$ 1<D(Payload Too Large)$ 0<D(Payload Too Large)$ =D(Payload Too Large)$ =reset ~" },
    { "1D=K", "H D(abcde)", "0H 1H 2H 0D(abcde) 1D(abcde) 2<H 1<H 0<H =H413 2<D(Payload Too Large)$ 1<D(Payload Too Large)$ 0<D(Payload Too Large)$ =D(Payload Too Large)$ =reset ~" },
    { "1D=K", "H D(abcd)$ c1", "0H 1H 2H 0D(abcd)$ 1D(abcd)$ 2D(abcd)$" },
    { "1H=W", "H D(abc) D(de) D(f) c1", "0H 1H 0D(abc) 0D(de) =pause 0D(f) 2H =resume 1D(abcdef) 2D(abcdef)" },
    { "1D=W", "H D(abcde)$ c1", "0H 1H 2H 0D(abcde)$ 1D(abcde)$ =pause =resume 2D(abcde)$" },
    { "1<H=K", "H$ <H <D(abcde)$", "0H$ 1H$ 2H$ 2<H 1<H 2<D(abcde)$ =H500 =D(Internal Server Error)$ ~" },
    { "1<D=K", "H$ <H <D(abcde)", "0H$ 1H$ 2H$ 2<H 1<H 0<H =H200 2<D(abcde) 1<D(abcde) =reset ~" },
    { "1<H=S 1<D=K", "H$ <H <D(abcde)", "0H$ 1H$ 2H$ 2<H 1<H 2<D(abcde) 1<D(abcde) =H500 =D(Internal Server Error)$ ~" },
    { "1<H=W", "H$ <H <D(abc) <D(de) k1", "0H$ 1H$ 2H$ 2<H 1<H 2<D(abc) 2<D(de) 2^ 0<H =H200 2v 1<D(abcde) 0<D(abcde) =D(abcde)" },
};
/* clang-format on */

static void test_requests(void **state)
{
    (void)state;
    play_all(requests, MZ_COUNT(requests), 100);
}

static void test_answers(void **state)
{
    (void)state;
    play_all(answers, MZ_COUNT(answers), 100);
}

static void test_ends(void **state)
{
    (void)state;
    play_all(ends, MZ_COUNT(ends), 100);
}

static void test_limits(void **state)
{
    (void)state;
    play_all(limits, MZ_COUNT(limits), 4);
}

/* ---- begin anew ---- */

static void test_recreate(void **state)
{
    (void)state;
    static const struct scripted cases[] = {
        { "2<H=SeC", "H$ <H$ <H$", "0H$ 1H$ 2H$ 2<H$ ~ 0H$ 1H$ 2H$ 2<H$ 1<H$ 0<H$ =H200$ ~" },
        { "0H=SeC", "H$", "0H$ ~ 0H$ 1H$ 2H$" },
    };
    play_all(cases, MZ_COUNT(cases), 100);
}

/* ---- routes ---- */

static const char routes[] =
    "name: r\n"
    "virtual_hosts:\n"
    "- name: all\n"
    "  domains: ['*']\n"
    "  routes:\n"
    "  - match: {prefix: /off}\n"
    "    direct_response: {status: 200}\n"
    "    typed_per_filter_config:\n"
    "      one: {'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}\n"
    "  - match: {prefix: /own}\n"
    "    direct_response: {status: 200}\n"
    "    typed_per_filter_config:\n"
    "      one: {'@type': "
    "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck,"
    " pass_through_mode: true}\n"
    "  - match: {prefix: /on}\n"
    "    direct_response: {status: 200}\n"
    "    typed_per_filter_config:\n"
    "      two: {'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, config:\n"
    "        {'@type': "
    "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, "
    "pass_through_mode: true}}\n"
    "  - match: {prefix: /}\n"
    "    name: rest\n"
    "    direct_response: {status: 200}\n";

static void test_per_route(void **state)
{
    (void)state;
    static const struct {
        const char *path, *trace;
        bool own;
    } cases[] = {
        { ":path: /off\n", "0H$", false },
        { ":path: /own\n", "0H$ 1H$", true },
        { ":path: /on\n", "0H$ 1H$ 2H$", false },
        { ":path: /x\n", "0H$ 1H$", false },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct fixture f;
        struct script scripts[N_FILTERS] = { 0 };
        struct filter_entry entries[N_FILTERS];
        fixture_init(&f);
        with_filters(&f, scripts, entries);
        entries[2].disabled = true;
        assert_true(fixture_routes(&f, routes, &fake_type));
        fixture_stream(&f);
        fixture_request(&f, cases[i].path, true);
        struct mz_filter *one = f.stream->filters[1];
        assert_int_equal(one && one->route_cfg, cases[i].own);
        const void *all[4];
        assert_int_equal(one ? mz_filter_route_configs(one, all) : 0, cases[i].own);
        assert_string_equal(fixture_trace(&f), cases[i].trace);
        fixture_fini(&f);
    }
}

static void test_clear_route_cache(void **state)
{
    (void)state;
    struct fixture f;
    struct script scripts[N_FILTERS] = { 0 };
    struct filter_entry entries[N_FILTERS];
    fixture_init(&f);
    with_filters(&f, scripts, entries);
    assert_true(fixture_routes(&f, routes, &fake_type));
    fixture_stream(&f);
    fixture_request(&f, ":path: /own\n", true);
    const struct mz_route *before = mz_stream_route(f.stream);
    mz_headers_set_id(f.stream->req.headers, MZ_H_PATH, MZ_STR("/other"));
    assert_ptr_equal(mz_stream_route(f.stream), before); /* cached */
    mz_stream_clear_route_cache(f.stream);
    assert_ptr_not_equal(mz_stream_route(f.stream), before);
    assert_true(mz_str_eq(mz_stream_info(f.stream)->route.route_name, MZ_STR("rest")));
    assert_null(f.stream->filters[1]->route_cfg); /* kept current */
    fixture_fini(&f);
}

/* ---- tickets ---- */

static void test_tickets(void **state)
{
    (void)state;
    struct fixture f;
    struct script scripts[N_FILTERS] = { 0 };
    struct filter_entry entries[N_FILTERS];
    fixture_init(&f);
    with_filters(&f, scripts, entries);
    struct mz_ticket old = { 0 };
    assert_null(mz_stream_by_ticket(old));
    for (int i = 0; i < 3; i++) { /* the slot is used again, the ticket is not */
        fixture_stream(&f);
        struct mz_ticket t = mz_stream_ticket(f.stream);
        assert_ptr_equal(mz_stream_by_ticket(t), f.stream);
        assert_null(mz_stream_by_ticket(old));
        stream_abort(f.stream, 0, NULL, NULL);
        assert_null(mz_stream_by_ticket(t));
        mz_loop_turn(f.loop, 0);
        old = t;
    }
    fixture_fini(&f);
}

/* ---- idle time ---- */

static uint64_t fake_us;
static uint64_t fake_now(void)
{
    return fake_us;
}

static void idle_for(struct fixture *f, uint64_t ms)
{
    fake_us += ms * 1000;
    mz_loop_turn(f->loop, 0);
}

/* What moves only notes the time: the timer, when it fires, counts from there. */
static void test_idle_time_begins_anew(void **state)
{
    (void)state;
    static const struct mz_clock fake = { fake_now, fake_now };
    const struct mz_clock *real = mz_clock;
    struct fixture f;
    struct script scripts[N_FILTERS] = { 0 };
    struct filter_entry entries[N_FILTERS];
    fake_us = 5000000;
    mz_clock = &fake;
    fixture_init(&f);
    with_filters(&f, scripts, entries);
    f.cfg.stream_idle_timeout_ms = 100;
    fixture_stream(&f);
    fixture_request(&f, "", false);
    idle_for(&f, 60);
    struct mz_buf data;
    mz_buf_init(&data);
    mz_buf_append(&data, "x", 1);
    f.in.ops->on_data(f.in.arg, &data, false);
    mz_buf_fini(&data);
    idle_for(&f, 60);
    idle_for(&f, 39);
    assert_int_equal(mz_scope_value(f.cfg.scope, MZ_HS_RQ_IDLE_TIMEOUT), 0);
    idle_for(&f, 2);
    assert_non_null(strstr(fixture_trace(&f), "=H408"));
    assert_int_equal(mz_scope_value(f.cfg.scope, MZ_HS_RQ_IDLE_TIMEOUT), 1);
    fixture_fini(&f);
    mz_clock = real;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_recreate),
        cmocka_unit_test(test_per_route),
        cmocka_unit_test(test_clear_route_cache),
        cmocka_unit_test(test_tickets),
        cmocka_unit_test(test_idle_time_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
