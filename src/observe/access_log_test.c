#include "base/test.h"

#include "base/arena.h"
#include "observe/access_log.h"
#include "observe/log_file.h"
#include "observe/log_filter.h"
#include "observe/metadata.h"
#include "observe/stream_info.h"
#include "proto/mapper.h"
#include "stats/stats.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const void *parse(struct mz_arena *a, const char *yaml, const ProtobufCMessageDescriptor *d)
{
    struct mz_proto_ctx ctx = { .arena = a };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, d, &m, &err))
        fail_msg("%s: %s: %s", yaml, err.path, err.msg);
    return m;
}

/* ---- filters ---- */

static const struct {
    const char *filter;
    bool pass;
} filters[] = {
    { "status_code_filter: {comparison: {op: GE, value: {default_value: 500, runtime_key: k}}}",
      true },
    { "status_code_filter: {comparison: {op: GE, value: {default_value: 504, runtime_key: k}}}",
      false },
    { "status_code_filter: {comparison: {op: EQ, value: {default_value: 503, runtime_key: k}}}",
      true },
    { "status_code_filter: {comparison: {op: NE, value: {default_value: 503, runtime_key: k}}}",
      false },
    { "status_code_filter: {comparison: {op: LE, value: {default_value: 503, runtime_key: k}}}",
      true },
    { "duration_filter: {comparison: {op: GE, value: {default_value: 20, runtime_key: k}}}", true },
    { "duration_filter: {comparison: {op: GE, value: {default_value: 21, runtime_key: k}}}",
      false },
    { "not_health_check_filter: {}", true },
    { "traceable_filter: {}", false },
    { "runtime_filter: {runtime_key: k, percent_sampled: {numerator: 100}}", true },
    { "runtime_filter: {runtime_key: k, percent_sampled: {numerator: 0}}", false },
    { "runtime_filter: {runtime_key: k, percent_sampled: {numerator: 17}}",
      true }, /* 0x10 % 100 is 16 */
    { "runtime_filter: {runtime_key: k, percent_sampled: {numerator: 16}}", false },
    { "runtime_filter: {runtime_key: k, percent_sampled: {numerator: 100}, "
      "use_independent_randomness: true}",
      true },
    { "and_filter: {filters: [{not_health_check_filter: {}}, {traceable_filter: {}}]}", false },
    { "or_filter: {filters: [{not_health_check_filter: {}}, {traceable_filter: {}}]}", true },
    { "header_filter: {header: {name: x-a, string_match: {exact: b}}}", true },
    { "header_filter: {header: {name: x-a, string_match: {exact: c}}}", false },
    { "response_flag_filter: {}", true },
    { "response_flag_filter: {flags: [UF]}", true },
    { "response_flag_filter: {flags: [NR, UO]}", false },
    { "grpc_status_filter: {statuses: [UNAVAILABLE]}", true },
    { "grpc_status_filter: {statuses: [UNAVAILABLE], exclude: true}", false },
    { "grpc_status_filter: {statuses: [OK]}", false },
    { "metadata_filter: {matcher: {filter: ns, path: [{key: k}], value: {bool_match: true}}}",
      true },
    { "metadata_filter: {matcher: {filter: ns, path: [{key: k}], value: {bool_match: false}}}",
      false },
    { "metadata_filter: {matcher: {filter: ns, path: [{key: x}], value: {bool_match: true}}}",
      true },
    { "metadata_filter: {matcher: {filter: ns, path: [{key: x}], value: {bool_match: true}}, "
      "match_if_key_not_found: false}",
      false },
    { "log_type_filter: {types: [DownstreamEnd]}", true },
    { "log_type_filter: {types: [DownstreamEnd], exclude: true}", false },
    { "log_type_filter: {types: [TcpPeriodic]}", false },
};

static void info_fill(struct mz_stream_info *i, struct mz_arena *a)
{
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add(h, MZ_STR("x-a"), MZ_STR("b"));
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_PATH, MZ_STR("/x\x1b"));
    *i = (struct mz_stream_info){ .arena = a,
                                  .status = 503,
                                  .start_us = 1000,
                                  .end_us = 21000,
                                  .req = h,
                                  .flags = MZ_FLAG(UPSTREAM_CONNECTION_FAILURE),
                                  .request_id = MZ_STR("00000010-aaaa") };
    i->dynamic_metadata = mz_meta_create(a);
    struct mz_value *v = mz_arena_new0(a, struct mz_value);
    v->kind = MZ_VALUE_BOOL;
    v->b = true;
    mz_meta_set(i->dynamic_metadata, MZ_STR("ns"), MZ_STR("k"), v);
}

static void test_filters(void **state)
{
    (void)state;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_stream_info info;
    info_fill(&info, a);
    struct mz_format_ctx c = { .info = &info, .log_type = "DownstreamEnd" };
    for (size_t i = 0; i < MZ_COUNT(filters); i++) {
        struct mz_err err = { "", "" };
        struct mz_log_filter *f = mz_log_filter_create(
            parse(a, filters[i].filter, &pb_AccessLogFilter__descriptor), &err);
        if (!f)
            fail_msg("%s: %s", filters[i].filter, err.msg);
        if (mz_log_filter_match(f, &c) != filters[i].pass)
            fail_msg("%s", filters[i].filter);
        mz_log_filter_destroy(f);
    }
    mz_arena_destroy(a);
}

/* ---- files ---- */

struct setup {
    char dir[32], path[64];
    struct mz_stats *stats;
    struct mz_log_files *files;
    struct mz_arena *arena;
    struct mz_stream_info info;
    struct mz_format_ctx ctx;
};

static void setup_init(struct setup *s, uint32_t flush_ms)
{
    memset(s, 0, sizeof(*s));
    (void)snprintf(s->dir, sizeof(s->dir), "/tmp/mz-log-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    (void)snprintf(s->path, sizeof(s->path), "%s/a.log", s->dir);
    s->stats = mz_stats_create(3);
    s->files = mz_log_files_create(s->stats, 3, flush_ms);
    s->arena = mz_arena_create(MZ_MEM_STREAM);
    info_fill(&s->info, s->arena);
    s->ctx = (struct mz_format_ctx){ .info = &s->info };
}

static void setup_fini(struct setup *s)
{
    mz_log_files_destroy(s->files);
    mz_stats_destroy(s->stats);
    mz_arena_destroy(s->arena);
    (void)unlink(s->path);
    (void)rmdir(s->dir);
}

static struct mz_access_log *log_create(struct setup *s, const char *format, struct mz_err *err)
{
    char yaml[512];
    (void)snprintf(
        yaml, sizeof(yaml),
        "{name: f, filter: {not_health_check_filter: {}}, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: %s, %s}}",
        s->path, format);
    return mz_access_log_create(parse(s->arena, yaml, &pb_AccessLog__descriptor), s->files, err);
}

static size_t file_read(const char *path, char *out, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, out, n - 1);
    if (fd >= 0)
        close(fd);
    out[got > 0 ? got : 0] = 0;
    return got > 0 ? (size_t)got : 0;
}

static uint64_t counter(struct setup *s, const char *name)
{
    uint64_t v = 0;
    mz_log_files_count(s->files);
    assert_true(mz_stats_find(s->stats, mz_str_c(name), &v));
    return v;
}

static void until(struct setup *s, const char *name, uint64_t at_least)
{
    for (unsigned i = 0; counter(s, name) < at_least; i++) {
        assert_true(i < 5000);
        usleep(1000);
    }
}

static void test_lines(void **state)
{
    (void)state;
    struct setup s;
    setup_init(&s, 5);
    struct mz_err err;
    struct mz_access_log *l = log_create(&s, "format: \"%REQ(:PATH)% %RESPONSE_CODE%\\n\"", &err);
    assert_non_null(l);
    mz_access_log_write(l, &s.ctx);
    mz_access_log_write(l, &s.ctx);
    s.info.health_check = true; /* filtered */
    mz_access_log_write(l, &s.ctx);
    until(&s, "filesystem.write_completed", 1);
    until(&s, "filesystem.flushed_by_timer", 1);
    char text[128];
    file_read(s.path, text, sizeof(text));
    assert_string_equal(text, "/x\\x1b 503\n/x\\x1b 503\n");
    assert_int_equal(counter(&s, "filesystem.write_buffered"), 2);
    assert_int_equal(counter(&s, "filesystem.write_total_buffered"), 0);
    assert_int_equal(counter(&s, "filesystem.write_failed"), 0);
    mz_access_log_destroy(l);
    setup_fini(&s);
}

static void test_default_line(void **state)
{
    (void)state;
    struct setup s;
    setup_init(&s, 10000);
    struct mz_err err;
    struct mz_access_log *l = log_create(&s, "format: ''", &err);
    assert_non_null(l);
    mz_access_log_write(l, &s.ctx);
    mz_access_log_destroy(l);
    mz_log_files_destroy(s.files); /* writes what is left */
    char text[256];
    file_read(s.path, text, sizeof(text));
    assert_string_equal(text, "[1970-01-01T00:00:00.000Z] \"GET /x\\x1b -\" 503 UF 0 0 20 - \"-\" "
                              "\"-\" \"-\" \"-\" \"-\"\n");
    s.files = mz_log_files_create(s.stats, 3, 5);
    setup_fini(&s);
}

static void test_reopen(void **state)
{
    (void)state;
    struct setup s;
    setup_init(&s, 2);
    struct mz_err err;
    struct mz_access_log *l = log_create(&s, "format: \"line\\n\"", &err);
    mz_access_log_write(l, &s.ctx);
    until(&s, "filesystem.write_completed", 1);
    char old[80], text[64];
    (void)snprintf(old, sizeof(old), "%s.1", s.path);
    assert_int_equal(rename(s.path, old), 0);
    mz_log_files_reopen(s.files);
    for (unsigned i = 0; access(s.path, F_OK) != 0; i++) {
        assert_true(i < 5000);
        usleep(1000);
    }
    mz_access_log_write(l, &s.ctx);
    until(&s, "filesystem.write_completed", 2);
    file_read(s.path, text, sizeof(text));
    assert_string_equal(text, "line\n");
    file_read(old, text, sizeof(text));
    assert_string_equal(text, "line\n");
    (void)unlink(old);
    mz_access_log_destroy(l);
    setup_fini(&s);
}

static void
test_full_disk(void **state) /* lines wait, then are dropped and counted; none is ever split */
{
    (void)state;
    enum { LINES = 5000 };
    struct setup s;
    setup_init(&s, 2);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 1003; /* in the middle of a line */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct mz_err err;
    struct mz_access_log *l =
        log_create(&s, "format: \"0123456789 the same long line, again and again\\n\"", &err);
    for (unsigned i = 0; i < LINES; i++)
        mz_access_log_write(l, &s.ctx);
    until(&s, "filesystem.write_failed", 100);
    assert_true(counter(&s, "filesystem.write_total_buffered") <= 128 << 10);
    uint64_t kept = counter(&s, "filesystem.write_buffered");
    assert_true(kept < LINES);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    mz_access_log_destroy(l);
    mz_log_files_destroy(s.files);
    static char text[LINES * 48];
    size_t n = file_read(s.path, text, sizeof(text));
    assert_int_equal(n, kept * 47);
    for (size_t at = 0; at < n; at += 47)
        assert_memory_equal(text + at, "0123456789 the same long line, again and again\n", 47);
    s.files = mz_log_files_create(s.stats, 3, 5);
    setup_fini(&s);
}

/* What is told of in place is whole in the file, round the ring's end; before what the writer has not taken a byte stays free. */
static void test_in_place(void **state)
{
    (void)state;
    struct setup s;
    setup_init(&s, 2);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, none;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    none = old;
    none.rlim_cur = 0;
    struct mz_err err;
    struct mz_log_file *f = mz_log_file_open(s.files, mz_str_c(s.path), &err);
    size_t total = 0, room;
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
        size_t held = 0;
        for (char *at; at = mz_log_file_room(f, &room), room; held += room) {
            memset(at, 'x', room);
            at[room - 1] = '\n';
            mz_log_file_wrote(f, room);
        }
        assert_int_equal(held, (128 << 10) - 1);
        total += held;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        for (unsigned i = 0; counter(&s, "filesystem.write_total_buffered"); i++) {
            assert_true(i < 5000);
            usleep(1000);
        }
    }
    char *text = mz_alloc(MZ_MEM_LOG, total + 2);
    assert_int_equal(file_read(s.path, text, total + 2), total);
    for (size_t at = 0; at < total; at++)
        assert_true(text[at] == 'x' || text[at] == '\n');
    assert_int_equal(text[total - 1], '\n');
    mz_free(MZ_MEM_LOG, text);
    mz_log_file_close(f);
    setup_fini(&s);
}

struct thread {
    struct mz_access_log *log;
    struct setup *s;
    unsigned slot;
};
enum { THREAD_LINES = 20000 };

static void *thread_run(void *arg)
{
    struct thread *t = arg;
    mz_stats_thread_slot(t->slot);
    struct mz_stream_info info = t->s->info;
    info.conn_id = t->slot;
    struct mz_format_ctx c = { .info = &info };
    for (unsigned i = 0; i < THREAD_LINES; i++) {
        info.stream_id = i;
        info.rx_body = i;
        mz_access_log_write(t->log, &c);
        if (i % 1000 == 0)
            sched_yield(); /* the writer has a chance; what finds no room is dropped and not counted as buffered */
    }
    mz_slice_thread_trim();
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct setup s;
    setup_init(&s, 1);
    struct mz_err err;
    struct mz_access_log *l =
        log_create(&s, "format: \"%CONNECTION_ID% %BYTES_RECEIVED%\\n\"", &err);
    struct thread t[2] = { { l, &s, 1 }, { l, &s, 2 } };
    pthread_t id[2];
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&id[i], NULL, thread_run, &t[i]), 0);
    for (unsigned i = 0; i < 2; i++)
        (void)pthread_join(id[i], NULL);
    uint64_t buffered = counter(&s, "filesystem.write_buffered");
    mz_access_log_destroy(l);
    mz_log_files_destroy(s.files);
    FILE *f = fopen(s.path, "re");
    assert_non_null(f);
    unsigned lines = 0;
    long last[3] = { -1, -1, -1 };
    for (char line[64], *rest; fgets(line, sizeof(line), f);) {
        unsigned long slot = strtoul(line, &rest, 10);
        long number = strtol(rest, &rest, 10);
        assert_string_equal(rest, "\n"); /* lines are whole */
        assert_true(slot == 1 || slot == 2);
        assert_true(number > last[slot]); /* of one thread in order */
        last[slot] = number;
        lines++;
    }
    assert_true(feof(f));
    (void)fclose(f);
    assert_int_equal(lines, buffered);
    s.files = mz_log_files_create(s.stats, 3, 5);
    setup_fini(&s);
}

static void test_wrong(void **state)
{
    (void)state;
    struct setup s;
    setup_init(&s, 5);
    struct mz_err err = { "", "" };
    assert_null(log_create(&s, "format: '%NOPE%'", &err));
    assert_string_equal(err.path, "typed_config.format");
    assert_string_equal(err.msg, "unknown format operator %NOPE%");
    (void)snprintf(s.path, sizeof(s.path), "/nonexistent/a.log");
    assert_null(log_create(&s, "format: 'x'", &err));
    assert_string_equal(err.path, "typed_config.path");
    assert_string_equal(err.msg,
                        "unable to open file '/nonexistent/a.log': No such file or directory");
    const char *no_type =
        "{name: envoy.access_loggers.file, filter: {response_flag_filter: {flags: [NR]}}}";
    assert_null(
        mz_access_log_create(parse(s.arena, no_type, &pb_AccessLog__descriptor), s.files, &err));
    assert_string_equal(err.path, "typed_config");
    mz_access_log_destroy(NULL);
    setup_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filters),      cmocka_unit_test(test_lines),
        cmocka_unit_test(test_default_line), cmocka_unit_test(test_reopen),
        cmocka_unit_test(test_full_disk),    cmocka_unit_test(test_threads),
        cmocka_unit_test(test_wrong),        cmocka_unit_test(test_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
