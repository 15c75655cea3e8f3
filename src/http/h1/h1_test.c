#include "base/rand.h"
#include "base/test.h"
#include "http/h1/h1_trace.h"

#include <stdio.h>

#define GET   "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST  "POST / HTTP/1.1\r\nHost: a\r\n"
#define HGET  "H[:method GET|:authority a|:path /"
#define HPOST "H[:method POST|:authority a|:path /"
#define E400  "E400 http1.codec_error"

enum {
    ABS_OFF = 1,
    HTTP10 = 2,
    TRAILERS = 4,
    CL_TE = 8,
    CUSTOM = 16,
    DROP = 32,
    REJECT = 64,
    SURVIVE = 128,
    H10_HOST = 256,
    FEW = 512,
    UPGRADE = 1024,
    CONNECT = 2048,
    HEAD = 4096,
    FIN = 8192
};

static struct mz_http1_opts opts_of(unsigned flags)
{
    struct mz_http1_opts o = trace_opts();
    o.allow_absolute_url = !(flags & ABS_OFF);
    o.accept_http10 = flags & HTTP10;
    o.enable_trailers = flags & TRAILERS;
    o.allow_chunked_length = flags & CL_TE;
    o.allow_custom_methods = flags & CUSTOM;
    o.underscores = flags & DROP     ? MZ_UNDERSCORE_DROP
                    : flags & REJECT ? MZ_UNDERSCORE_REJECT
                                     : MZ_UNDERSCORE_ALLOW;
    o.override_stream_error = flags & SURVIVE;
    if (flags & H10_HOST)
        o.default_host_http10 = MZ_STR("default.test");
    if (flags & FEW) {
        o.max_headers_count = 3;
        o.max_headers_kb = 1;
    }
    return o;
}

struct h1_case {
    const char *name, *in, *events;
    unsigned flags;
    size_t n; /* bytes of in when it holds a NUL */
};

/* clang-format off */
static const struct h1_case requests[] = {
    { "plain", GET "\r\n", HGET "]!", 0, 0 },
    { "B01 bare LF", "GET / HTTP/1.1\nHost: a\n\n", HGET "]!", 0, 0 },
    { "two in a row", GET "\r\n" GET "\r\n", HGET "]!" HGET "]!", 0, 0 },
    { "no host is the manager's", "GET / HTTP/1.1\r\n\r\n", "H[:method GET|:path /]!", 0, 0 },
    { "names are lower-cased, values trimmed", GET "X-CamelCase: \t Value  with  \t\r\n\r\n", HGET "|x-camelcase Value  with]!", 0, 0 },
    { "empty value", GET "x:\r\n\r\n", HGET "|x ]!", 0, 0 },
    { "length", POST "Content-Length: 3\r\n\r\nabc", HPOST "|content-length 3]Dabc!", 0, 0 },
    { "length zero", POST "Content-Length: 0\r\n\r\n", HPOST "|content-length 0]!", 0, 0 },
    { "A19 GET with a body", GET "content-length: 2\r\n\r\nab", HGET "|content-length 2]Dab!", 0, 0 },
    { "chunked", POST "Transfer-Encoding: ChUnKeD\r\n\r\n3;ext=1\r\nabc\r\nA \r\n0123456789\r\n0\r\nx-tr: v\r\n\r\n", HPOST "]Dabc0123456789!", 0, 0 },
    { "trailers on", POST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-tr: v\r\n\r\n", HPOST "]DaT[x-tr v]!", TRAILERS, 0 },
    { "A17 framing trailers", POST "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\nHost: b\r\nAuthorization: c\r\nTransfer-Encoding: x\r\n\r\n", HPOST "]D!", TRAILERS, 0 },
    { "A01 CL.TE", POST "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x", "E400 http1.content_length_and_chunked_not_allowed", 0, 0 },
    { "A02 TE.CL", POST "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", "E400 http1.content_length_and_chunked_not_allowed", 0, 0 },
    { "A01 allowed", POST "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET /x", HPOST "]Da!", CL_TE, 0 },
    { "A03", POST "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nab", "E400 http1.content_length_and_chunked_not_allowed", 0, 0 },
    { "A04 gzip", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", "E501 http1.invalid_transfer_encoding", 0, 0 },
    { "A04 twice in one", POST "Transfer-Encoding: chunked, chunked\r\n\r\n", "E501 http1.invalid_transfer_encoding", 0, 0 },
    { "A04 parameter", POST "Transfer-Encoding: chunked;x=1\r\n\r\n", "E501 http1.invalid_transfer_encoding", 0, 0 },
    { "A04 xchunked", POST "Transfer-Encoding: xchunked\r\n\r\n", "E501 http1.invalid_transfer_encoding", 0, 0 },
    { "A04 two", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "E501 http1.invalid_transfer_encoding", 0, 0 },
    { "A04 empty", POST "Transfer-Encoding:\r\n\r\n", "E501 http1.invalid_transfer_encoding", 0, 0 },
    { "A04 comma", POST "Transfer-Encoding: ,chunked\r\n\r\n", "E501 http1.invalid_transfer_encoding", 0, 0 },
    { "A05 vertical tab", POST "Transfer-Encoding:\x0b" "chunked\r\n\r\n", "E400 http1.invalid_characters", 0, 0 },
    { "A05 blank before colon", POST "Transfer-Encoding : chunked\r\n\r\n", E400, 0, 0 },
    { "A06 folded", POST "Transfer-Encoding:\r\n chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", HPOST "]Da!", 0, 0 },
    { "A07 in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "E400 http1.transfer_encoding_not_allowed", HTTP10, 0 },
    { "A08 nominated", POST "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n\r\n0\r\n\r\n", HPOST "|connection Transfer-Encoding]D!", 0, 0 },
    { "A09 equal", POST "content-length: 3\r\ncontent-length: 3\r\n\r\nabc", E400, 0, 0 },
    { "A09 list", POST "content-length: 3, 3\r\n\r\nabc", E400, 0, 0 },
    { "A10 +2", POST "content-length: +2\r\n\r\nab", E400, 0, 0 },
    { "A10 -1", POST "content-length: -1\r\n\r\nab", E400, 0, 0 },
    { "A10 hex", POST "content-length: 0x2\r\n\r\nab", E400, 0, 0 },
    { "A10 large", POST "content-length: 18446744073709551618\r\n\r\nab", E400, 0, 0 },
    { "A10 2^63", POST "content-length: 9223372036854775807\r\n\r\nab", E400, 0, 0 },
    { "A10 empty", POST "content-length:\r\n\r\nab", E400, 0, 0 },
    { "A10 underscore", POST "content-length: 2_0\r\n\r\nab", E400, 0, 0 },
    { "A10 blank", POST "content-length: 2 3\r\n\r\nab", E400, 0, 0 },
    { "A11", POST "content-length:\r\ncontent-length: 2\r\n\r\nab", E400, 0, 0 },
    { "A12 17 digits", POST "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n", HPOST "]" E400, 0, 0 },
    { "A12 16 digits", POST "transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nabc", HPOST "]" E400, 0, 0 },
    { "A13 0x", POST "transfer-encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n", HPOST "]" E400, 0, 0 },
    { "A13 minus", POST "transfer-encoding: chunked\r\n\r\n-2\r\nab\r\n", HPOST "]" E400, 0, 0 },
    { "A13 empty", POST "transfer-encoding: chunked\r\n\r\n\r\nab\r\n", HPOST "]" E400, 0, 0 },
    { "A13 empty with extension", POST "transfer-encoding: chunked\r\n\r\n;a\r\nab\r\n", HPOST "]" E400, 0, 0 },
    { "A13 leading blank", POST "transfer-encoding: chunked\r\n\r\n 2\r\nab\r\n", HPOST "]" E400, 0, 0 },
    { "A13 inner blank", POST "transfer-encoding: chunked\r\n\r\n1 1\r\nab\r\n", HPOST "]" E400, 0, 0 },
    { "A14 LF", POST "transfer-encoding: chunked\r\n\r\n2\nab\r\n", HPOST "]" E400, 0, 0 },
    { "A14 CR", POST "transfer-encoding: chunked\r\n\r\n2\rXab", HPOST "]" E400, 0, 0 },
    { "A14 ext LF", POST "transfer-encoding: chunked\r\n\r\n2;a\nb\r\n", HPOST "]" E400, 0, 0 },
    { "A14 ext CR", POST "transfer-encoding: chunked\r\n\r\n2;a\rb\r\n", HPOST "]" E400, 0, 0 },
    { "A14 final LF", POST "transfer-encoding: chunked\r\n\r\n0\n\n", HPOST "]" E400, 0, 0 },
    { "A14 trailer LF", POST "transfer-encoding: chunked\r\n\r\n0\r\na: b\n\r\n", HPOST "]" "E400 http1.invalid_characters", 0, 0 },
    { "A14 final LF 2", POST "transfer-encoding: chunked\r\n\r\n0\r\n\n", HPOST "]" E400, 0, 0 },
    { "A15", POST "transfer-encoding: chunked\r\n\r\n2\r\nabX0\r\n", HPOST "]Dab" E400, 0, 0 },
    { "A16 NUL", POST "transfer-encoding: chunked\r\n\r\n2;\0\r\nab\r\n", HPOST "]" E400, 0, sizeof(POST "transfer-encoding: chunked\r\n\r\n2;\0\r\nab\r\n") - 1 },
    { "A20 pipelined", GET "\r\n" GET "\r\nBROKEN\r\n\r\n", HGET "]!" HGET "]!" E400, 0, 0 },
    { "A24 h2c", GET "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n", HGET "]!", 0, 0 },
    { "upgrade", GET "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nraw", HGET "|connection keep-alive, Upgrade|upgrade websocket]Draw", 0, 0 },
    { "upgrade without connection", GET "Upgrade: websocket\r\n\r\n", HGET "|upgrade websocket]!", 0, 0 },
    { "B02 bare CR", GET "X-A: a\rX-B: b\r\n\r\n", "E400 http1.invalid_characters", 0, 0 },
    { "B03 NUL", GET "X-A: a\0b\r\n\r\n", "E400 http1.invalid_characters", 0, sizeof(GET "X-A: a\0b\r\n\r\n") - 1 },
    { "B03 DEL", GET "X-A: a\x7f\r\n\r\n", "E400 http1.invalid_characters", 0, 0 },
    { "B03 CTL", GET "X-A: a\x01" "b\r\n\r\n", "E400 http1.invalid_characters", 0, 0 },
    { "B03 NUL in name", GET "X\0A: a\r\n\r\n", "E400 http1.invalid_characters", 0, sizeof(GET "X\0A: a\r\n\r\n") - 1 },
    { "B10 NUL in target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", "E400 http1.invalid_characters", 0, sizeof("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n") - 1 },
    { "B03 8 bit", GET "X-A: a\xe9" "b\r\n\r\n", HGET "|x-a a\xe9" "b]!", 0, 0 },
    { "tab in value", GET "x-tab:\t a\tb \t\r\n\r\n", HGET "|x-tab a\tb]!", 0, 0 },
    { "B04 fold", GET "x-a: one\r\n two\r\n\tthree \r\n \r\nx: y\r\n\r\n", HGET "|x-a one two three|x y]!", 0, 0 },
    { "B05 first folded", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", E400, 0, 0 },
    { "B05 no colon", GET "nocolon\r\n\r\n", E400, 0, 0 },
    { "B05 empty name", GET ": v\r\n\r\n", E400, 0, 0 },
    { "B05 X(A)", GET "x(a): v\r\n\r\n", E400, 0, 0 },
    { "B06 two", GET "Host: b\r\n\r\n", "E400 http1.duplicate_host", 0, 0 },
    { "B06 empty", "GET / HTTP/1.1\r\nhost:\r\n\r\n", "H[:method GET|:authority |:path /]!", 0, 0 },
    { "B06 slash", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", "E400 http.invalid_authority", 0, 0 },
    { "B06 blank", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n", "E400 http.invalid_authority", 0, 0 },
    { "B06 user", "GET / HTTP/1.1\r\nhost: a@b\r\n\r\n", "E400 http.invalid_authority", 0, 0 },
    { "B06 v6", "GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", "H[:method GET|:authority [::1]:80|:path /]!", 0, 0 },
    { "B07 absolute", "GET http://abs.test/a?x=1 HTTP/1.1\r\nhost: other\r\n\r\n", "H[:method GET|:authority abs.test|:path /a?x=1|:scheme http]!", 0, 0 },
    { "B07 no path", "GET http://abs.test HTTP/1.1\r\nhost: other\r\n\r\n", "H[:method GET|:authority abs.test|:path /|:scheme http]!", 0, 0 },
    { "B07 query only", "GET http://abs.test?q HTTP/1.1\r\n\r\n", "H[:method GET|:authority abs.test|:path /?q|:scheme http]!", 0, 0 },
    { "B07 https", "GET HTTPS://abs.test:8443/b HTTP/1.1\r\n\r\n", "H[:method GET|:authority abs.test:8443|:path /b|:scheme https]!", 0, 0 },
    { "B07 ftp", "GET ftp://abs.test/ HTTP/1.1\r\nhost: o\r\n\r\n", "E400 http1.invalid_scheme", 0, 0 },
    { "B07 no host", "GET http:///d HTTP/1.1\r\nhost: o\r\n\r\n", "E400 http1.invalid_url", 0, 0 },
    { "B07 off", "GET http://abs.test/a HTTP/1.1\r\nhost: o\r\n\r\n", "H[:method GET|:authority o|:path http://abs.test/a]!", ABS_OFF, 0 },
    { "B08 star", "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", "H[:method OPTIONS|:authority a|:path *]!", 0, 0 },
    { "B08 GET star", "GET * HTTP/1.1\r\nhost: a\r\n\r\n", "E400 http1.invalid_url", 0, 0 },
    { "B09 connect", "CONNECT t.test:443 HTTP/1.1\r\nhost: x\r\n\r\nraw", "H[:method CONNECT|:authority t.test:443]Draw", 0, 0 },
    { "connect without port", "CONNECT t.test HTTP/1.1\r\nhost: t.test\r\n\r\n", "E400 http1.invalid_url", 0, 0 },
    { "connect with length", "CONNECT t.test:1 HTTP/1.1\r\ncontent-length: 3\r\n\r\n", "E400 http1.body_disallowed", 0, 0 },
    { "connect chunked", "CONNECT t.test:1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", "E501 http1.invalid_transfer_encoding", 0, 0 },
    { "B10 no slash", "GET k HTTP/1.1\r\nhost: a\r\n\r\n", E400, 0, 0 },
    { "B10 space", "GET /g h HTTP/1.1\r\nhost: a\r\n\r\n", E400, 0, 0 },
    { "B10 8 bit", "GET /l\xff HTTP/1.1\r\nhost: a\r\n\r\n", E400, 0, 0 },
    { "B11 two blanks", "GET  /j   HTTP/1.1\r\nhost: a\r\n\r\n", "H[:method GET|:authority a|:path /j]!", 0, 0 },
    { "B11 tab", "GET\t/j HTTP/1.1\r\nhost: a\r\n\r\n", E400, 0, 0 },
    { "B12 lower case", "get / HTTP/1.1\r\nhost: a\r\n\r\n", E400, 0, 0 },
    { "B12 unknown", "HELLO / HTTP/1.1\r\nhost: a\r\n\r\n", E400, 0, 0 },
    { "B12 custom", "HELLO / HTTP/1.1\r\nhost: a\r\n\r\n", "H[:method HELLO|:authority a|:path /]!", CUSTOM, 0 },
    { "B12 bad character", "G@T / HTTP/1.1\r\nhost: a\r\n\r\n", E400, CUSTOM, 0 },
    { "B12 purge", "PURGE / HTTP/1.1\r\nhost: a\r\n\r\n", "H[:method PURGE|:authority a|:path /]!", 0, 0 },
    { "B13 1.2", "GET / HTTP/1.2\r\nhost: a\r\n\r\n", "E426 low_version", 0, 0 },
    { "B13 2.0", "GET / HTTP/2.0\r\nhost: a\r\n\r\n", "E426 low_version", HTTP10, 0 },
    { "B13 0.9", "GET /a\r\n\r\n", "E426 low_version", 0, 0 },
    { "B13 1.0", "GET / HTTP/1.0\r\nhost: a\r\n\r\n", "E426 low_version", 0, 0 },
    { "B13 1.01", "GET / HTTP/1.01\r\nhost: a\r\n\r\n", E400, 0, 0 },
    { "B13 case", "GET / hTTP/1.1\r\nhost: a\r\n\r\n", E400, 0, 0 },
    { "1.0 accepted, closes", "GET / HTTP/1.0\r\nhost: a\r\n\r\n" GET "\r\n", HGET "]!", HTTP10, 0 },
    { "1.0 kept", "GET / HTTP/1.0\r\nhost: a\r\nconnection: Keep-Alive\r\n\r\n" GET "\r\n", HGET "|connection Keep-Alive]!" HGET "]!", HTTP10, 0 },
    { "1.0 default host", "GET /d\r\n\r\n", "H[:method GET|:authority default.test|:path /d]!", HTTP10 | H10_HOST, 0 },
    { "B14 blank lines", "\r\n\n\r\n\r\n" GET "\r\n", HGET "]!", 0, 0 },
    { "B15 count", GET "a: 1\r\nb: 2\r\nc: 3\r\n\r\n", "E431 http1.too_many_headers", FEW, 0 },
    { "B15 count fits", GET "a: 1\r\nb: 2\r\n\r\n", HGET "|a 1|b 2]!", FEW, 0 },
    { "B16 TLS", "\x16\x03\x01\x02", E400, 0, 0 },
    { "B16 ssh", "SSH-2.0-x", E400, 0, 0 },
    { "B16 h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", E400, 0, 0 },
    { "B16 hello", "hello", E400, 0, 0 },
    { "B16 control in the target", "GET /\x01", E400, 0, 0 },
    { "B17 x-forwarded-for", GET "connection: X-Forwarded-For\r\n\r\n", "E400 http1.connection_header_rejected", 0, 0 },
    { "B17 host", GET "connection: close, host\r\n\r\n", "E400 http1.connection_header_rejected", 0, 0 },
    { "B17 pseudo", GET "connection: :path\r\n\r\n", "E400 http1.connection_header_rejected", 0, 0 },
    { "B17 cookie stays", GET "connection: cookie\r\ncookie: a=b\r\n\r\n", HGET "|connection cookie|cookie a=b]!", 0, 0 },
    { "B17 plain goes", GET "connection: x-a\r\nx-a: 1\r\nx-b: 2\r\n\r\n", HGET "|connection x-a|x-b 2]!", 0, 0 },
    { "B17 many", GET "connection: a,b,c,d,e,f,g,h,i,j\r\n\r\n", "E400 http1.connection_header_rejected", 0, 0 },
    { "te", GET "te: trailers, gzip\r\n\r\n", HGET "|te trailers]!", 0, 0 },
    { "te without trailers", GET "te: gzip\r\n\r\n", HGET "]!", 0, 0 },
    { "close", GET "connection: close\r\n\r\n" GET "\r\n", HGET "|connection close]!", 0, 0 },
    { "proxy-connection close", GET "proxy-connection: close\r\n\r\n" GET "\r\n", HGET "|proxy-connection close]!", 0, 0 },
    { "C12 underscore passes", GET "x_role: evil\r\n\r\n", HGET "|x_role evil]!", 0, 0 },
    { "C12 dropped", GET "x_role: evil\r\n\r\n", HGET "]!", DROP, 0 },
    { "C12 rejected", GET "x_role: evil\r\n\r\n", "E400 http1.unexpected_underscore", REJECT, 0 },
    { "survives an invalid host", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n" GET "\r\n", "E400 http.invalid_authority" HGET "]!", SURVIVE, 0 },
    { "does not survive a body", "GET / HTTP/1.1\r\nhost: a/b\r\ncontent-length: 5\r\n\r\n" GET "\r\n", "E400 http.invalid_authority", SURVIVE, 0 },
};

static const struct h1_case responses[] = {
    { "plain", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "H[:status 200|content-length 2]Dok!", 0, 0 },
    { "no reason", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", "H[:status 200|content-length 0]!", 0, 0 },
    { "chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "H[:status 200]Dok!", 0, 0 },
    { "until close", "HTTP/1.0 200 OK\r\n\r\nuntil close", "H[:status 200]Duntil close!", FIN, 0 },
    { "HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n", "H[:status 200|content-length 1234]!", HEAD, 0 },
    { "204", "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", "H[:status 204]!", 0, 0 },
    { "304", "HTTP/1.1 304 Not Modified\r\ncontent-length: 50\r\n\r\n", "H[:status 304|content-length 50]!", 0, 0 },
    { "100", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "I[:status 100]H[:status 200|content-length 0]!", 0, 0 },
    { "103, 150", "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 150 X\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "I[:status 103|link a]H[:status 200|content-length 0]!", 0, 0 },
    { "cut body", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "H[:status 200|content-length 10]DhalfE502 http1.codec_errorRprotocol error", FIN, 0 },
    { "cut chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n", "H[:status 200]DpartE502 http1.codec_errorRprotocol error", FIN, 0 },
    { "cut head", "HTTP/1.1 200 OK\r\nconte", "E502 http1.codec_errorRprotocol error", FIN, 0 },
    { "nothing", "", "", FIN, 0 },
    { "F01 two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello", "E502 http1.codec_errorRprotocol error", 0, 0 },
    { "F01 both", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "E502 http1.content_length_and_chunked_not_allowedRprotocol error", 0, 0 },
    { "F01 two TEs", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "E502 http1.invalid_transfer_encodingRprotocol error", 0, 0 },
    { "F01 204 length", "HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc", "E502 http1.content_length_not_allowedRprotocol error", 0, 0 },
    { "F01 204 TE", "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "E502 http1.transfer_encoding_not_allowedRprotocol error", 0, 0 },
    { "F03 CR", "HTTP/1.1 200 OK\r\na: b\rSet-Cookie: x=1\r\ncontent-length: 0\r\n\r\n", "E502 http1.invalid_charactersRprotocol error", 0, 0 },
    { "F03 name", "HTTP/1.1 200 OK\r\nbad header: x\r\ncontent-length: 0\r\n\r\n", "E502 http1.codec_errorRprotocol error", 0, 0 },
    { "F04", "HTTP/1.1 200 OK\r\na: 1\r\nb: 1\r\nc: 1\r\nd: 1\r\n\r\n", "E502 http1.too_many_headersRprotocol error", FEW, 0 },
    { "F05 99", "HTTP/1.1 99 X\r\n\r\n", "E502 http1.codec_errorRprotocol error", 0, 0 },
    { "F05 1000", "HTTP/1.1 1000 X\r\n\r\n", "E502 http1.codec_errorRprotocol error", 0, 0 },
    { "F05 xyz", "HTTP/1.1 xyz\r\n\r\n", "E502 http1.codec_errorRprotocol error", 0, 0 },
    { "F05 2.0", "HTTP/2.0 200 OK\r\n\r\n", "E502 http1.codec_errorRprotocol error", 0, 0 },
    { "F05 ssh", "SSH-2.0-OpenSSH", "E502 http1.codec_errorRprotocol error", 0, 0 },
    { "F05 099", "HTTP/1.1 099 X\r\n\r\n", "E502 http1.codec_errorRprotocol error", 0, 0 },
    { "F07", "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", "E502 http1.unexpected_upgradeRprotocol error", 0, 0 },
    { "101", "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nraw", "H[:status 101|connection upgrade|upgrade websocket]Draw!", UPGRADE | FIN, 0 },
    { "upgrade refused", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", "H[:status 200|content-length 2]Dno!", UPGRADE, 0 },
    { "connect", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nraw", "H[:status 200]Draw!", CONNECT | FIN, 0 },
    { "connect refused", "HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno", "H[:status 403|content-length 2]Dno!", CONNECT, 0 },
    { "F09", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", "H[:status 200]DabE502 http1.codec_errorRprotocol error", 0, 0 },
};
/* clang-format on */

static void begin(struct trace *t, const struct h1_case *k, bool client)
{
    trace_init(t, client, opts_of(k->flags));
    if (client)
        trace_request(t,
                      k->flags & HEAD      ? "HEAD"
                      : k->flags & CONNECT ? "CONNECT"
                                           : "GET",
                      k->flags & UPGRADE);
}

/* Feeds a case in parts of at most @part bytes (0: at once) and gives the events. */
static void play(struct trace *t, const struct h1_case *k, bool client, size_t part)
{
    size_t n = k->n ? k->n : strlen(k->in), at = 0;
    begin(t, k, client);
    do {
        size_t m = part && part < n - at ? part : n - at;
        char *exact = malloc(m + 1); /* so that a read behind the end is seen */
        memcpy(exact, k->in + at, m);
        enum mz_codec_status s = trace_feed(t, exact, m, (k->flags & FIN) && at + m == n);
        free(exact);
        at += m;
        if (s == MZ_CODEC_ERROR && !(k->flags & SURVIVE))
            break;
    } while (at < n);
}

static void check(const struct h1_case *k, bool client, size_t part)
{
    struct trace t;
    play(&t, k, client, part);
    struct mz_str got = trace_text(&t.events);
    if (got.n != strlen(k->events) || (got.n && memcmp(got.p, k->events, got.n) != 0))
        fail_msg("%s (parts of %zu): got " MZ_STR_FMT " wanted %s", k->name, part, MZ_STR_ARG(got),
                 k->events);
    trace_fini(&t);
}

static void test_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(requests); i++)
        for (size_t part = 0; part < 8; part++)
            check(&requests[i], false, part);
}

static void test_responses(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(responses); i++)
        for (size_t part = 0; part < 8; part++)
            check(&responses[i], true, part);
}

/* A reset within any callback ends the events; nothing is touched afterwards (under ASan). */
static void test_reset_in_callback(void **state)
{
    (void)state;
    for (int client = 0; client < 2; client++) {
        const struct h1_case *v = client ? responses : requests;
        size_t n = client ? MZ_COUNT(responses) : MZ_COUNT(requests);
        for (size_t i = 0; i < n; i++) {
            for (unsigned at = 1; at < 6; at++) {
                struct trace t;
                begin(&t, &v[i], client);
                t.reset_at = at;
                size_t len = v[i].n ? v[i].n : strlen(v[i].in);
                (void)trace_feed(&t, v[i].in, len, v[i].flags & FIN);
                if (t.callbacks >= at) {
                    assert_int_equal(t.callbacks, at);
                    assert_true(t.codec->must_close);
                }
                trace_fini(&t);
            }
        }
    }
}

/* ---- what goes out ---- */

static void assert_out(struct trace *t, const char *name, const char *want)
{
    struct mz_str got = trace_text(&t->out);
    if (got.n != strlen(want) || memcmp(got.p, want, got.n) != 0)
        fail_msg("%s: got " MZ_STR_FMT " wanted %s", name, MZ_STR_ARG(got), want);
}

/* clang-format off */
static const struct {
    const char *name, *in;
    const char *fields; /* "name: value\n" lines of the answer */
    unsigned status, flags;
    const char *body;   /* NULL: ends with the headers */
    const char *out;
    bool must_close;
} answers[] = {
    { "length", GET "\r\n", "content-length: 2\n", 200, 0, "ok", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false },
    { "chunked", GET "\r\n", "x: y\n", 200, 0, "0123456789abcdef!", "HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n11\r\n0123456789abcdef!\r\n0\r\n\r\n", false },
    { "empty chunked", GET "\r\n", "", 200, 0, "", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false },
    { "no body", GET "\r\n", "", 404, 0, NULL, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", false },
    { "unknown status", GET "\r\n", "", 299, 0, NULL, "HTTP/1.1 299 Unknown\r\ncontent-length: 0\r\n\r\n", false },
    { "HEAD", "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", "content-length: 9\n", 200, 0, NULL, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", false },
    { "HEAD without length", "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", "", 200, 0, NULL, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false },
    { "HEAD with a body", "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", "content-length: 2\n", 200, 0, "ok", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", false },
    { "204", GET "\r\n", "content-length: 0\n", 204, 0, NULL, "HTTP/1.1 204 No Content\r\n\r\n", false },
    { "304", GET "\r\n", "etag: x\n", 304, 0, NULL, "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n", false },
    { "304 with length", GET "\r\n", "content-length: 50\n", 304, 0, NULL, "HTTP/1.1 304 Not Modified\r\ncontent-length: 50\r\n\r\n", false },
    { "transfer-encoding of a map", GET "\r\n", "transfer-encoding: gzip\n", 200, 0, NULL, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false },
    { "client closes", GET "connection: close\r\n\r\n", "", 200, 0, NULL, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", true },
    { "manager closes", GET "\r\n", "connection: close\n", 200, 0, NULL, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", true },
    { "1.0 unknown length", "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", "", 200, HTTP10, "abcd", "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nabcd", true },
    { "1.0 kept", "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", "content-length: 1\n", 200, HTTP10, "a", "HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\na", false },
    { "early", POST "content-length: 9\r\n\r\nabc", "content-length: 1\n", 413, 0, "x", "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx", true },
    { "too long for its length", GET "\r\n", "content-length: 2\n", 200, 0, "okHTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true },
    { "too short for its length", GET "\r\n", "content-length: 5\n", 200, 0, "ok", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", true },
    { "101", GET "connection: upgrade\r\nupgrade: websocket\r\n\r\n", "connection: upgrade\nupgrade: websocket\n", 101, 0, "raw", "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nraw", true },
    { "upgrade refused", GET "connection: upgrade\r\nupgrade: websocket\r\n\r\nGET / HTTP/1.1\r\n\r\n", "", 403, 0, NULL, "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", true },
    { "connect", "CONNECT a:1 HTTP/1.1\r\n\r\n", "", 200, 0, "raw", "HTTP/1.1 200 OK\r\n\r\nraw", true },
};
/* clang-format on */

static void parse_fields(struct mz_headers *h, const char *lines)
{
    struct mz_str rest = mz_str_c(lines);
    for (struct mz_str line; mz_str_split(&rest, '\n', &line);) {
        ptrdiff_t colon = mz_str_find(line, MZ_STR(": "));
        if (colon > 0)
            mz_headers_add(h, (struct mz_str){ line.p, (size_t)colon },
                           mz_str_skip(line, (size_t)colon + 2));
    }
}

static void send(struct trace *t, struct mz_headers *h, const char *body)
{
    struct mz_buf b;
    mz_buf_init(&b);
    t->enc->ops->encode_headers(t->enc, h, !body);
    if (body) {
        mz_buf_append_str(&b, mz_str_c(body));
        t->enc->ops->encode_data(t->enc, &b, true);
    }
    assert_int_equal(b.len, 0);
    mz_buf_fini(&b);
}

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(answers); i++) {
        struct trace t;
        struct mz_headers h;
        trace_init(&t, false, opts_of(answers[i].flags));
        t.echo = false;
        (void)trace_feed(&t, answers[i].in, strlen(answers[i].in), false);
        mz_headers_init(&h, t.arena);
        mz_headers_set_status(&h, answers[i].status);
        parse_fields(&h, answers[i].fields);
        send(&t, &h, answers[i].body);
        assert_out(&t, answers[i].name, answers[i].out);
        if (t.codec->must_close != answers[i].must_close)
            fail_msg("%s: must_close is %d", answers[i].name, t.codec->must_close);
        trace_fini(&t);
    }
}

/* clang-format off */
static const struct {
    const char *name, *fields, *body, *out;
} sent[] = {
    { "GET", ":method: GET\n:authority: a\n:path: /x\n:scheme: http\nx-a: 1\n", NULL, "GET /x HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n\r\n" },
    { "OPTIONS has a length", ":method: OPTIONS\n:authority: a\n:path: *\n", NULL, "OPTIONS * HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n" },
    { "DELETE has none", ":method: DELETE\n:authority: a\n:path: /\n", NULL, "DELETE / HTTP/1.1\r\nhost: a\r\n\r\n" },
    { "length", ":method: POST\n:authority: a\n:path: /\ncontent-length: 2\n", "ok", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok" },
    { "chunked", ":method: POST\n:authority: a\n:path: /\n", "ok", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" },
    { "upgrade holds data (A21)", ":method: GET\n:authority: a\n:path: /\nconnection: Upgrade\nupgrade: websocket\n", "GET /x", "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n" },
    { "connect holds data", ":method: CONNECT\n:authority: a:1\n", "raw", "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n" },
};
/* clang-format on */

static void test_sent(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(sent); i++) {
        struct trace t;
        struct mz_headers h;
        trace_init(&t, true, trace_opts());
        t.arena = mz_arena_create(MZ_MEM_STREAM);
        struct mz_stream_in in = { &trace_in_ops, &t, t.arena };
        t.enc = mz_http1_client_request(t.codec, &in);
        mz_headers_init(&h, t.arena);
        parse_fields(&h, sent[i].fields);
        send(&t, &h, sent[i].body);
        assert_out(&t, sent[i].name, sent[i].out);
        trace_fini(&t);
    }
}

/* Of many idle connections the oldest are told that their codec is not needed; who keeps it is asked again later. */
static void test_rest(void **state)
{
    enum { N = 100 };
    static struct trace t[N];
    unsigned kept = 0;
    (void)state;
    for (unsigned i = 0; i < N; i++) {
        trace_init(&t[i], false, trace_opts());
        t[i].lets_rest = i != 3;
        (void)trace_feed(&t[i], GET "\r\n", sizeof(GET "\r\n") - 1, false);
    }
    for (unsigned i = 0; i < N; i++) {
        assert_true(i == 3 ? t[i].rests > 1 : t[i].rests <= 1);
        kept += t[i].rests == 0;
    }
    assert_in_range(kept, 1, 32);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(t[i].rests == 0, i >= N - kept);
    unsigned last = N - kept, before = t[last].rests;
    (void)trace_feed(&t[last], GET, sizeof(GET) - 1, false); /* not between two messages any more */
    for (unsigned i = 0; i < N; i++)
        if (!t[i].rests)
            (void)trace_feed(&t[i], GET "\r\n", sizeof(GET "\r\n") - 1, false);
    assert_int_equal(t[last].rests, before);
    for (unsigned i = 0; i < N; i++)
        trace_fini(&t[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_reset_in_callback),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_sent),
        cmocka_unit_test(test_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
