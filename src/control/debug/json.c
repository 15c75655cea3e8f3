#include "control/debug/json.h"

#include <stdio.h>
#include <time.h>

static void put(struct json_out *j, struct mz_str s)
{
    mz_buf_append_str(j->b, s);
}

static void line(struct json_out *j)
{
    mz_buf_printf(j->b, "\n%*s", (int)(2 * j->level), "");
}

/* In front of each value and key. */
static void begin(struct json_out *j)
{
    if (j->keyed) {
        j->keyed = false;
        return;
    }
    if (!j->level)
        return;
    if (j->some[j->level])
        put(j, MZ_STR(","));
    j->some[j->level] = true;
    line(j);
}

static void quoted(struct json_out *j, struct mz_str s)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    put(j, MZ_STR("\""));
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        const char *brief = c ? strchr(from, c) : NULL;
        if (brief)
            mz_buf_printf(j->b, "\\%c", to[brief - from]);
        else if (c < 0x20 || c == 0x7f || c == '<' || c == '>')
            mz_buf_printf(j->b, "\\u%04x", c);
        else
            mz_buf_append(j->b, s.p + i, 1);
    }
    put(j, MZ_STR("\""));
}

void json_open(struct json_out *j, char bracket)
{
    begin(j);
    mz_buf_append(j->b, &bracket, 1);
    if (j->level + 1 < JSON_MAX_DEPTH)
        j->level++;
    j->some[j->level] = false;
}

void json_close(struct json_out *j, char bracket)
{
    const bool some = j->some[j->level];
    j->level--;
    if (some)
        line(j);
    mz_buf_append(j->b, &bracket, 1);
}

void json_key_str(struct json_out *j, struct mz_str key)
{
    begin(j);
    quoted(j, key);
    put(j, MZ_STR(": "));
    j->keyed = true;
}

void json_key(struct json_out *j, const char *key)
{
    json_key_str(j, mz_str_c(key));
}

void json_str(struct json_out *j, struct mz_str s)
{
    begin(j);
    quoted(j, s);
}

void json_u64(struct json_out *j, uint64_t v)
{
    begin(j);
    mz_buf_printf(j->b, "%llu", (unsigned long long)v);
}

void json_bool(struct json_out *j, bool v)
{
    begin(j);
    put(j, v ? MZ_STR("true") : MZ_STR("false"));
}

void json_time(struct json_out *j, uint64_t wall_us)
{
    const time_t s = (time_t)(wall_us / 1000000);
    struct tm tm;
    char text[64];
    (void)gmtime_r(&s, &tm);
    (void)snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ", tm.tm_year + 1900,
                   tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                   (unsigned)(wall_us % 1000000));
    json_str(j, mz_str_c(text));
}

void json_raw(struct json_out *j, struct mz_str text)
{
    begin(j);
    while (text.n) {
        const ptrdiff_t end = mz_str_chr(text, '\n');
        put(j, (struct mz_str){ text.p, end < 0 ? text.n : (size_t)end });
        text = mz_str_skip(text, end < 0 ? text.n : (size_t)end + 1);
        if (text.n)
            line(j);
    }
}

void json_member(struct json_out *j, const char *key, struct mz_str value)
{
    if (!value.n)
        return;
    json_key(j, key);
    json_str(j, value);
}
