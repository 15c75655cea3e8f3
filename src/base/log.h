#ifndef MZ_BASE_LOG_H
#define MZ_BASE_LOG_H
/*
 * The process log (P9): levels per component, changeable at run time; one compare when off. A line about a connection or a
 * stream carries their ids as Envoy 1.40 does: [Tags: "ConnectionId":"3","StreamId":"42"]. Any thread.
 */
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum mz_log_level { MZ_LOG_TRACE, MZ_LOG_DEBUG, MZ_LOG_INFO, MZ_LOG_WARN, MZ_LOG_ERROR, MZ_LOG_CRITICAL, MZ_LOG_OFF };

/* Envoy's logger names; a component is MZ_LOG_C_<name>. */
#define MZ_LOG_COMPONENTS(X)                                                                                           \
    X(admin) X(assert) X(client) X(config) X(connection) X(conn_handler) X(dns) X(file) X(filter) X(forward_proxy)     \
    X(grpc) X(happy_eyeballs) X(hc) X(health_checker) X(http) X(http2) X(hystrix) X(init) X(io) X(jwt) X(lua) X(main)  \
    X(matcher) X(misc) X(pool) X(quic) X(rbac) X(router) X(runtime) X(secret) X(stats) X(tap) X(tracing) X(upstream)   \
    X(wasm) X(xds)
enum mz_log_component {
#define X(name) MZ_LOG_C_##name,
    MZ_LOG_COMPONENTS(X)
#undef X
    MZ_LOG_C__COUNT
};
extern uint8_t mz_log_levels[MZ_LOG_C__COUNT]; /* read relaxed; change with mz_log_set_level */

static inline bool mz_log_on(enum mz_log_component c, enum mz_log_level l)
{
    return __builtin_expect(l >= __atomic_load_n(&mz_log_levels[c], __ATOMIC_RELAXED), 0);
}
/* conn and stream ids of 0 are left out. Writes one line; a text with newlines gets them escaped. */
__attribute__((format(printf, 7, 8))) void mz_log_write(enum mz_log_component c, enum mz_log_level l, uint64_t conn_id,
                                                        uint64_t stream_id, const char *file, int line, const char *fmt, ...);
#define MZ_LOG_IDS(level, comp, conn, stream, ...)                                                                     \
    (mz_log_on(MZ_LOG_C_##comp, MZ_LOG_##level)                                                                        \
         ? mz_log_write(MZ_LOG_C_##comp, MZ_LOG_##level, (conn), (stream), __FILE__, __LINE__, __VA_ARGS__)            \
         : (void)0)
#define MZ_LOG(level, comp, ...) MZ_LOG_IDS(level, comp, 0, 0, __VA_ARGS__)
/* Tracing of chosen connections or requests: written whatever the component's level when @force (mz_log_forced()). */
#define MZ_LOG_FORCED(force, level, comp, conn, stream, ...)                                                           \
    ((force) || mz_log_on(MZ_LOG_C_##comp, MZ_LOG_##level)                                                             \
         ? mz_log_write(MZ_LOG_C_##comp, MZ_LOG_##level, (conn), (stream), __FILE__, __LINE__, __VA_ARGS__)            \
         : (void)0)

bool mz_log_level_parse(struct mz_str s, enum mz_log_level *out_level); /* trace debug info warning|warn error|err critical off */
const char *mz_log_level_name(enum mz_log_level l);                     /* "warning" ... */
const char *mz_log_component_name(enum mz_log_component c);
bool mz_log_component_find(struct mz_str name, enum mz_log_component *out_component);
void mz_log_set_level(enum mz_log_component c, enum mz_log_level l);
void mz_log_set_all(enum mz_log_level l);

struct mz_err;
/* Envoy's --log-format (spdlog flags: %Y-%m-%d %T.%e %t %l %n %g %# %v %_ %j %*); NULL takes the default. */
bool mz_log_set_format(const char *fmt, struct mz_err *err);
bool mz_log_set_json(bool on); /* one JSON object a line instead of the format; returns the old value */
bool mz_log_open(const char *path, struct mz_err *err); /* NULL: standard error */
bool mz_log_reopen(void);                               /* the same path again (/reopen_logs) */

/* A defect of ours: aborts in test builds; in release it is logged and counted (server.envoy_bug_failures). */
#ifdef NDEBUG
#define MZ_ASSERT(cond) ((void)sizeof((cond) ? 1 : 0))
#else
#define MZ_ASSERT(cond) ((cond) ? (void)0 : mz_assert_failed(#cond, __FILE__, __LINE__))
#endif
_Noreturn void mz_assert_failed(const char *cond, const char *file, int line);
#define MZ_BUG(cond) (__builtin_expect(!!(cond), 0) ? (mz_bug(#cond, __FILE__, __LINE__), true) : false)
void mz_bug(const char *cond, const char *file, int line);
uint64_t mz_bug_count(void);
#endif
