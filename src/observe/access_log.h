#ifndef MZ_OBSERVE_ACCESS_LOG_H
#define MZ_OBSERVE_ACCESS_LOG_H
/*
 * Access logs: file, stdout, stderr; text and JSON; all filters (O2). A log is immutable and shared by threads; each worker
 * gathers lines in its own buffer and a writer takes them at 64 KiB or after --file-flush-interval-msec. A line is never
 * split. Writing never blocks a worker and never fails a request: a full disk is counted (filesystem.write_failed; see log_file.h).
 */
#include "base/err.h"
#include "observe/format.h"

struct mz_log_files; /* all open log files of the process, by path; main thread owns the writer thread */
struct mz_stats;
struct mz_log_files *mz_log_files_create(struct mz_stats *st, unsigned slots, uint32_t flush_ms);
void mz_log_files_destroy(struct mz_log_files *f); /* writes what is left */
void mz_log_files_reopen(struct mz_log_files *f);  /* POST /reopen_logs, SIGUSR1 */

/* Loggers of other folders: found by the type of their configuration, besides files and standard streams. */
struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;
struct mz_access_logger_type {
    const struct ProtobufCMessageDescriptor *config;
    void *(*create)(void *env, const struct ProtobufCMessage *msg, struct mz_err *err); /* main thread */
    void (*write)(void *logger, const struct mz_format_ctx *c); /* on the stream's thread, at its end; the filter let it pass */
    void (*destroy)(void *logger);                              /* main thread; other threads may still be inside write */
};
/* Main thread, before any log is made; @v and @env live as long as the logs. */
void mz_log_files_set_loggers(struct mz_log_files *f, const struct mz_access_logger_type *const *v, size_t n, void *env);

struct mz_access_log;
struct Envoy__Config__Accesslog__V3__AccessLog;
struct mz_access_log *mz_access_log_create(const struct Envoy__Config__Accesslog__V3__AccessLog *m, struct mz_log_files *files,
                                           struct mz_err *err);
void mz_access_log_destroy(struct mz_access_log *l);
/* On the stream's thread, at its end. */
void mz_access_log_write(const struct mz_access_log *l, const struct mz_format_ctx *c);
#endif
