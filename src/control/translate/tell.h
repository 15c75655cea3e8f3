#ifndef MZ_CONTROL_TRANSLATE_TELL_H
#define MZ_CONTROL_TRANSLATE_TELL_H
/* What documents say that cannot be done, found out while resources are made: each text once per model, however many proxies meet it. */
#include "control/translate/translate_priv.h"

/* @key: the document ("AuthorizationPolicy/demo/web"). To the log as a warning. */
__attribute__((format(printf, 3, 4))) void tr_tell(struct mz_view *v, struct mz_str key, const char *fmt, ...);
#endif
