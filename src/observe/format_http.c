#include "base/arena.h"
#include "base/log.h"
#include "observe/format_priv.h"

/* Operators that read headers and trailers. */

/* ---- %REQ(X?Y):Z%, %RESP%, %TRAILER%: names in path, their ids in id and id2 ---- */

static bool header_name_ok(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
            return false;
    return true;
}

static struct mz_str lower_dup(struct mz_arena *a, struct mz_str s)
{
    char *p = mz_arena_alloc(a, s.n + 1);
    for (size_t i = 0; i < s.n; i++)
        p[i] = mz_lower(s.p[i]);
    p[s.n] = 0;
    return (struct mz_str){ p, s.n };
}

static bool compile_header(struct step *s, struct mz_str param, struct mz_arena *a,
                           struct mz_err *err)
{
    if (!header_name_ok(param))
        return mz_err_set(err, "\"" MZ_STR_FMT "\" is not a header name", MZ_STR_ARG(param));
    ptrdiff_t mark = mz_str_chr(param, '?');
    struct mz_str main_name = { param.p, mark < 0 ? param.n : (size_t)mark };
    struct mz_str other =
        mark < 0 ? (struct mz_str){ "", 0 } : mz_str_skip(param, (size_t)mark + 1);
    if (mz_str_chr(other, '?') >= 0)
        return mz_err_set(err, "more than one alternative header in \"" MZ_STR_FMT "\"",
                          MZ_STR_ARG(param));
    s->path = mz_arena_alloc(a, 2 * sizeof(*s->path));
    s->path[0] = lower_dup(a, main_name);
    s->path[1] = lower_dup(a, other);
    s->path_n = other.n ? 2 : 1;
    s->id = (uint8_t)mz_header_id(s->path[0]);
    s->id2 = (uint8_t)mz_header_id(s->path[1]);
    if (s->id == MZ_H_NONE || (other.n && s->id2 == MZ_H_NONE))
        s->way = WAY_CALL; /* names are looked for, not looked up */
    return true;
}

static const struct mz_header *header_find(const struct mz_headers *h, uint8_t id,
                                           struct mz_str name)
{
    return id != MZ_H_NONE ? mz_headers_get_id(h, id) : name.n ? mz_headers_get(h, name) : NULL;
}

static void header_value(const struct step *s, const struct mz_headers *h, struct value *out)
{
    if (!h)
        return;
    const struct mz_header *e = header_find(h, s->id, s->path[0]);
    if (!e && s->path_n == 2)
        e = header_find(h, s->id2, s->path[1]);
    if (e)
        value_str(out, e->value);
}

static void value_req(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    header_value(s, ctx_req(c), out);
}

static void value_resp(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    header_value(s, ctx_resp(c), out);
}

static void value_trailer(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    header_value(s, ctx_trailers(c), out);
}

/* The formatter extension of the same name: the header up to its '?'. */
static void value_req_bare(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    header_value(s, ctx_req(c), out);
    ptrdiff_t query = out->kind == VALUE_STR ? mz_str_chr(out->str, '?') : -1;
    if (query >= 0)
        out->str.n = (size_t)query;
}

/* ---- sizes ---- */

static void headers_size(const struct mz_headers *h, struct value *out)
{
    value_number(out, h ? mz_headers_bytes(h) : 0);
}

static void value_req_bytes(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    headers_size(ctx_req(c), out);
}

static void value_resp_bytes(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    (void)s;
    headers_size(ctx_resp(c), out);
}

static void value_trailer_bytes(const struct step *s, const struct mz_format_ctx *c,
                                struct value *out)
{
    (void)s;
    headers_size(ctx_trailers(c), out);
}

/* ---- paths and queries ---- */

static bool word_choose(struct mz_str word, const struct mz_str *words, uint8_t n, const char *op,
                        uint8_t *out, struct mz_err *err)
{
    for (uint8_t i = 0; i < n; i++)
        if (mz_str_eq(words[i], word)) {
            *out = i;
            return true;
        }
    char list[96] = "";
    size_t used = 0;
    for (uint8_t i = 0; i < n; i++) {
        used += words[i].n + 1 < sizeof(list) - used ? words[i].n + 1 : 0;
        memcpy(list + used - words[i].n - 1, words[i].p, words[i].n);
        list[used - 1] = i + 1 < n ? ' ' : 0;
    }
    return mz_err_set(err, "%s: unknown option \"" MZ_STR_FMT "\", expected one of: %s", op,
                      MZ_STR_ARG(word), list);
}

enum { PATH_ORIG, PATH_PATH, PATH_ORIG_OR_PATH };
static const struct mz_str path_query_words[] = { MZ_STR_INIT("WQ"), MZ_STR_INIT("NQ") };
static const struct mz_str path_source_words[] = { MZ_STR_INIT("ORIG"), MZ_STR_INIT("PATH"),
                                                   MZ_STR_INIT("ORIG_OR_PATH") };

static bool compile_path_option(struct step *s, struct mz_str param, struct mz_arena *a,
                                struct mz_err *err)
{
    (void)a;
    struct mz_str query = { "", 0 };
    (void)mz_str_split(&param, ':', &query);
    s->id2 = PATH_ORIG_OR_PATH;
    return (query.n == 0 || word_choose(query, path_query_words, 2, "PATH", &s->id, err)) &&
           (param.n == 0 || word_choose(param, path_source_words, 3, "PATH", &s->id2, err));
}

static void value_path(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    const struct mz_headers *h = ctx_req(c);
    if (!h)
        return;
    const struct mz_header *e =
        s->id2 != PATH_PATH ? mz_headers_get_id(h, MZ_H_X_ENVOY_ORIGINAL_PATH) : NULL;
    if (!e && s->id2 != PATH_ORIG)
        e = mz_headers_get_id(h, MZ_H_PATH);
    if (!e)
        return;
    value_str(out, e->value);
    ptrdiff_t query = s->id ? mz_str_chr(e->value, '?') : -1;
    if (query >= 0)
        out->str.n = (size_t)query;
}

static bool request_query(const struct mz_format_ctx *c, struct mz_str *out_query)
{
    const struct mz_headers *h = ctx_req(c);
    struct mz_str path = h ? mz_headers_path(h) : (struct mz_str){ "", 0 };
    ptrdiff_t mark = mz_str_chr(path, '?');
    if (mark < 0)
        return false;
    struct mz_str query = mz_str_skip(path, (size_t)mark + 1);
    ptrdiff_t fragment = mz_str_chr(query, '#');
    *out_query = (struct mz_str){ query.p, fragment < 0 ? query.n : (size_t)fragment };
    return true;
}

static bool compile_text(struct step *s, struct mz_str param, struct mz_arena *a,
                         struct mz_err *err)
{
    (void)err;
    s->text = mz_arena_dup(a, param);
    return true;
}

static void value_query_param(const struct step *s, const struct mz_format_ctx *c,
                              struct value *out)
{
    struct mz_str query, pair;
    if (!request_query(c, &query))
        return;
    while (mz_str_split(&query, '&', &pair)) {
        ptrdiff_t eq = mz_str_chr(pair, '=');
        struct mz_str name = { pair.p, eq < 0 ? pair.n : (size_t)eq };
        if (mz_str_eq(name, s->text)) {
            value_str(out, eq < 0 ? (struct mz_str){ "", 0 } : mz_str_skip(pair, (size_t)eq + 1));
            return;
        }
    }
}

static const struct mz_str query_words[] = { MZ_STR_INIT("ORIG"), MZ_STR_INIT("DECODED") };

static bool compile_query(struct step *s, struct mz_str param, struct mz_arena *a,
                          struct mz_err *err)
{
    (void)a;
    return param.n == 0 || word_choose(param, query_words, 2, "QUERY_PARAMS", &s->id, err);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'                     ? c - '0'
           : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                    : -1;
}

static void percent_decode(struct mz_str s, struct mz_buf *out)
{
    MZ_ASSERT(s.p || !s.n);
    for (size_t i = 0; i < s.n; i++) {
        int high = s.p[i] == '%' && i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(s.p[i + 2]) : -1;
        char c = low >= 0 ? (char)(high * 16 + low) : s.p[i];
        i += low >= 0 ? 2 : 0;
        mz_buf_append(out, &c, 1);
    }
}

static void value_query(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    struct mz_str query;
    if (!request_query(c, &query))
        return;
    if (s->id == 0) {
        value_str(out, query);
        return;
    }
    percent_decode(query, value_spill(out));
    value_take_spill(out);
}

/* ---- %REQUESTED_SERVER_NAME(SNI_FIRST:HOST)% ---- */

enum { NAME_SNI_ONLY, NAME_SNI_FIRST, NAME_HOST_FIRST };
enum { HOST_ORIG_OR_HOST, HOST_HOST, HOST_ORIG };
static const struct mz_str name_words[] = { MZ_STR_INIT("SNI_ONLY"), MZ_STR_INIT("SNI_FIRST"),
                                            MZ_STR_INIT("HOST_FIRST") };
static const struct mz_str host_words[] = { MZ_STR_INIT("ORIG_OR_HOST"), MZ_STR_INIT("HOST"),
                                            MZ_STR_INIT("ORIG") };

static bool compile_server_name(struct step *s, struct mz_str param, struct mz_arena *a,
                                struct mz_err *err)
{
    (void)a;
    struct mz_str order = { "", 0 };
    (void)mz_str_split(&param, ':', &order);
    if (order.n && !word_choose(order, name_words, 3, "REQUESTED_SERVER_NAME", &s->id, err))
        return false;
    if (s->id != NAME_SNI_ONLY)
        s->way = WAY_CALL;
    return param.n == 0 || word_choose(param, host_words, 3, "REQUESTED_SERVER_NAME", &s->id2, err);
}

static struct mz_str request_host(const struct mz_format_ctx *c, uint8_t source)
{
    const struct mz_headers *h = ctx_req(c);
    struct mz_str host = { "", 0 };
    if (h && source != HOST_HOST)
        host = mz_headers_value_id(h, MZ_H_X_ENVOY_ORIGINAL_HOST);
    if (h && host.n == 0 && source != HOST_ORIG)
        host = mz_headers_value_id(h, MZ_H_AUTHORITY);
    return host;
}

static bool host_byte(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '.' ||
           c == '-';
}

/* The client's own text, which no codec has looked at: one that is no host name is marked, and disarmed (Envoy; B18). */
static void value_sni(struct mz_str sni, struct value *out)
{
    size_t ok = 0;
    while (ok < sni.n && host_byte(sni.p[ok]))
        ok++;
    if (ok == sni.n) {
        value_str_or_none(out, sni);
        return;
    }
    struct mz_buf *b = value_spill(out);
    mz_buf_append(b, "invalid:", 8);
    for (size_t i = 0; i < sni.n; i++)
        mz_buf_append(b, host_byte(sni.p[i]) ? &sni.p[i] : "_", 1);
    value_take_spill(out);
}

static void value_server_name(const struct step *s, const struct mz_format_ctx *c,
                              struct value *out)
{
    struct mz_str host =
        s->id == NAME_SNI_ONLY ? (struct mz_str){ "", 0 } : request_host(c, s->id2);
    bool host_first = s->id == NAME_HOST_FIRST || c->info->sni.n == 0;
    if (host_first && host.n)
        value_str_or_none(out, host);
    else
        value_sni(c->info->sni, out);
}

/* ---- gRPC status: of trailers, else headers, else what the HTTP status stands for ---- */

static const struct {
    struct mz_str camel, snake;
} grpc_names[] = {
    { MZ_STR_INIT("OK"), MZ_STR_INIT("OK") },
    { MZ_STR_INIT("Canceled"), MZ_STR_INIT("CANCELLED") },
    { MZ_STR_INIT("Unknown"), MZ_STR_INIT("UNKNOWN") },
    { MZ_STR_INIT("InvalidArgument"), MZ_STR_INIT("INVALID_ARGUMENT") },
    { MZ_STR_INIT("DeadlineExceeded"), MZ_STR_INIT("DEADLINE_EXCEEDED") },
    { MZ_STR_INIT("NotFound"), MZ_STR_INIT("NOT_FOUND") },
    { MZ_STR_INIT("AlreadyExists"), MZ_STR_INIT("ALREADY_EXISTS") },
    { MZ_STR_INIT("PermissionDenied"), MZ_STR_INIT("PERMISSION_DENIED") },
    { MZ_STR_INIT("ResourceExhausted"), MZ_STR_INIT("RESOURCE_EXHAUSTED") },
    { MZ_STR_INIT("FailedPrecondition"), MZ_STR_INIT("FAILED_PRECONDITION") },
    { MZ_STR_INIT("Aborted"), MZ_STR_INIT("ABORTED") },
    { MZ_STR_INIT("OutOfRange"), MZ_STR_INIT("OUT_OF_RANGE") },
    { MZ_STR_INIT("Unimplemented"), MZ_STR_INIT("UNIMPLEMENTED") },
    { MZ_STR_INIT("Internal"), MZ_STR_INIT("INTERNAL") },
    { MZ_STR_INIT("Unavailable"), MZ_STR_INIT("UNAVAILABLE") },
    { MZ_STR_INIT("DataLoss"), MZ_STR_INIT("DATA_LOSS") },
    { MZ_STR_INIT("Unauthenticated"), MZ_STR_INIT("UNAUTHENTICATED") },
};

static bool is_grpc_request(const struct mz_headers *h)
{
    struct mz_str type = h ? mz_headers_value_id(h, MZ_H_CONTENT_TYPE) : (struct mz_str){ "", 0 };
    const struct mz_str grpc = MZ_STR("application/grpc");
    return mz_str_starts(type, grpc) &&
           (type.n == grpc.n || type.p[grpc.n] == '+' || type.p[grpc.n] == ';');
}

static unsigned grpc_status_of_http(unsigned status) /* the mapping that the gRPC documents give */
{
    switch (status) {
    case 400:
        return 13;
    case 401:
        return 16;
    case 403:
        return 7;
    case 404:
        return 12;
    case 429:
    case 502:
    case 503:
    case 504:
        return 14;
    default:
        return 2;
    }
}

bool grpc_status_of(const struct mz_headers *resp, const struct mz_headers *trailers,
                    unsigned status, uint64_t *out_status)
{
    const struct mz_header *e = trailers ? mz_headers_get_id(trailers, MZ_H_GRPC_STATUS) : NULL;
    if (!e && resp)
        e = mz_headers_get_id(resp, MZ_H_GRPC_STATUS);
    if (e)
        return mz_str_u64(e->value, out_status);
    if (status == 0)
        return false;
    *out_status = grpc_status_of_http(status);
    return true;
}

static bool grpc_status(const struct mz_format_ctx *c, uint64_t *out_status)
{
    return is_grpc_request(ctx_req(c)) &&
           grpc_status_of(ctx_resp(c), ctx_trailers(c), c->info->status, out_status);
}

enum { GRPC_CAMEL, GRPC_SNAKE, GRPC_NUMBER };
static const struct mz_str grpc_words[] = { MZ_STR_INIT("CAMEL_STRING"),
                                            MZ_STR_INIT("SNAKE_STRING"), MZ_STR_INIT("NUMBER") };

static bool compile_grpc(struct step *s, struct mz_str param, struct mz_arena *a,
                         struct mz_err *err)
{
    (void)a;
    return param.n == 0 || word_choose(param, grpc_words, 3, "GRPC_STATUS", &s->id, err);
}

static bool compile_grpc_number(struct step *s, struct mz_str param, struct mz_arena *a,
                                struct mz_err *err)
{
    (void)param, (void)a, (void)err;
    s->id = GRPC_NUMBER;
    return true;
}

static void value_grpc(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    uint64_t status;
    if (!grpc_status(c, &status))
        return;
    if (s->id == GRPC_NUMBER)
        value_number(out, status);
    else if (status < MZ_COUNT(grpc_names))
        value_str(out, s->id == GRPC_CAMEL ? grpc_names[status].camel : grpc_names[status].snake);
    else
        value_str(out, (struct mz_str){ out->scratch, mz_u64_text(status, out->scratch) });
}

/* clang-format off: a table, one operator a line */
const struct operator_row operators_http[] = {
    { MZ_STR_INIT("REQ"), value_req, compile_header, 0, PARAMS_MUST, true, WAY_REQ },
    { MZ_STR_INIT("REQUEST_HEADER"), value_req, compile_header, 0, PARAMS_MUST, true, WAY_REQ },
    { MZ_STR_INIT("STREAM_INFO_REQ"), value_req, compile_header, 0, PARAMS_MUST, true, WAY_REQ },
    { MZ_STR_INIT("RESP"), value_resp, compile_header, 0, PARAMS_MUST, true, WAY_RESP },
    { MZ_STR_INIT("RESPONSE_HEADER"), value_resp, compile_header, 0, PARAMS_MUST, true, WAY_RESP },
    { MZ_STR_INIT("RESPONSE_TRAILER"), value_trailer, compile_header, 0, PARAMS_MUST, true,
      WAY_CALL },
    { MZ_STR_INIT("TRAILER"), value_trailer, compile_header, 0, PARAMS_MUST, true, WAY_CALL },
    { MZ_STR_INIT("REQ_WITHOUT_QUERY"), value_req_bare, compile_header, 0, PARAMS_MUST, true,
      WAY_CALL },
    { MZ_STR_INIT("REQUEST_HEADERS_BYTES"), value_req_bytes, NULL, 0, PARAMS_NO, false, WAY_CALL },
    { MZ_STR_INIT("RESPONSE_HEADERS_BYTES"), value_resp_bytes, NULL, 0, PARAMS_NO, false,
      WAY_CALL },
    { MZ_STR_INIT("RESPONSE_TRAILERS_BYTES"), value_trailer_bytes, NULL, 0, PARAMS_NO, false,
      WAY_CALL },
    { MZ_STR_INIT("PATH"), value_path, compile_path_option, 0, PARAMS_MAY, true, WAY_CALL },
    { MZ_STR_INIT("QUERY_PARAM"), value_query_param, compile_text, 0, PARAMS_MUST, true, WAY_CALL },
    { MZ_STR_INIT("QUERY_PARAMS"), value_query, compile_query, 0, PARAMS_MAY, true, WAY_CALL },
    { MZ_STR_INIT("REQUESTED_SERVER_NAME"), value_server_name, compile_server_name, 0, PARAMS_MAY,
      false, WAY_SERVER_NAME },
    { MZ_STR_INIT("GRPC_STATUS"), value_grpc, compile_grpc, 0, PARAMS_MAY, false, WAY_CALL },
    { MZ_STR_INIT("GRPC_STATUS_NUMBER"), value_grpc, compile_grpc_number, 0, PARAMS_NO, false,
      WAY_CALL },
};
/* clang-format on */
const size_t operators_http_n = MZ_COUNT(operators_http);
