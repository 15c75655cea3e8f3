#ifndef MZ_OBSERVE_SUBSTITUTION_H
#define MZ_OBSERVE_SUBSTITUTION_H
/* envoy.config.core.v3.SubstitutionFormatString: a text or JSON format from configuration. Access logs, local replies and
 * bodies of direct responses share it. Immutable, any thread. */
#include "base/err.h"
#include "observe/format.h"

struct mz_log_format;
struct Envoy__Config__Core__V3__SubstitutionFormatString;
struct Google__Protobuf__Struct;
/* Main thread: reads text_format_source (file, environment, inline) now. */
struct mz_log_format *
mz_log_format_create(const struct Envoy__Config__Core__V3__SubstitutionFormatString *m,
                     struct mz_err *err);
struct mz_log_format *mz_log_format_create_text(struct mz_str text, struct mz_err *err);
struct mz_log_format *mz_log_format_create_json(const struct Google__Protobuf__Struct *s,
                                                struct mz_err *err);
void mz_log_format_destroy(struct mz_log_format *f); /* NULL is fine */
void mz_log_format_append(const struct mz_log_format *f, const struct mz_format_ctx *c,
                          struct mz_buf *out);
/* A line of a log, where control bytes of values become \xNN (B18): into @mem while it suffices, and returns the length;
 * otherwise all of it is in @overflow. */
size_t mz_log_format_line(const struct mz_log_format *f, const struct mz_format_ctx *c, char *mem,
                          size_t room, struct mz_buf *overflow);
/* What a local reply says of its body: as configured, else application/json or text/plain. */
struct mz_str mz_log_format_content_type(const struct mz_log_format *f);
bool mz_log_format_is_json(const struct mz_log_format *f);

/* What Envoy writes where no format is configured; a newline is behind each. */
extern const struct mz_str mz_log_format_default; /* HTTP and TCP */
#endif
