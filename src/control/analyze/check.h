#ifndef MZ_CONTROL_ANALYZE_CHECK_H
#define MZ_CONTROL_ANALYZE_CHECK_H
/* What one document must be like, whatever else there is: the rules that the webhook applies when an object is written. */
#include "control/sources/doc.h"

bool mz_check_object(enum mz_kind k, const ProtobufCMessage *body, struct mz_err *err); /* false: path and reason */
/* The same of what depends on the namespace @ns that it is in: "." among those that see it. */
bool mz_check_exports_from(enum mz_kind k, struct mz_str ns, const ProtobufCMessage *body, struct mz_err *err);
#endif
