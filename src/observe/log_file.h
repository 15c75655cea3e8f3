#ifndef MZ_OBSERVE_LOG_FILE_H
#define MZ_OBSERVE_LOG_FILE_H
/*
 * Files that lines are written to by many threads. Each thread has a ring per file, which only it fills and only the writer
 * thread empties: no lock, no system call for a line (one per 64 KiB). Lines reach the file whole and, of one thread, in
 * order; while the file cannot be written they wait in the rings, and those that find no room are dropped and counted.
 */
#include "base/buf.h"
#include "base/err.h"

struct mz_log_files;
struct mz_log_file;
/* Main thread. The same path gives the same file; "/dev/stdout" and "/dev/stderr" are the process' own descriptors. */
struct mz_log_file *mz_log_file_open(struct mz_log_files *f, struct mz_str path,
                                     struct mz_err *err);
void mz_log_file_close(struct mz_log_file *file); /* once per open; no thread writes any more */
/* Any thread that has a statistics slot; takes the bytes of @line, which end with a newline. */
void mz_log_file_write(struct mz_log_file *file, struct mz_buf *line);
/* The same without a copy: the line is written to *out_room bytes (maybe none) that nobody else looks at, and then told of. */
char *mz_log_file_room(struct mz_log_file *file, size_t *out_room);
void mz_log_file_wrote(struct mz_log_file *file, size_t n);
struct mz_access_logger_type;
/* That of mz_log_files_set_loggers() whose configuration has this type; NULL: none. */
const struct mz_access_logger_type *mz_log_files_logger(const struct mz_log_files *f, struct mz_str config_type,
                                                        void **out_env);
/* What the writer thread did becomes statistics (filesystem.*): the main thread calls it before it shows or flushes them;
 * threads that write call it as well. */
void mz_log_files_count(struct mz_log_files *f);
#endif
