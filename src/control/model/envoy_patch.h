#ifndef MZ_CONTROL_MODEL_ENVOY_PATCH_H
#define MZ_CONTROL_MODEL_ENVOY_PATCH_H
/* What an EnvoyFilter puts into configuration (C5): free text to the message that it is a piece of. */
#include "control/model/model.h"

/* The message that patches of @to are about; NULL: none. */
const ProtobufCMessageDescriptor *mz_envoy_patch_type(ist_EnvoyFilter_ApplyTo to);
/**
 * Reads patch.value; *out_msg NULL where there is none. A typed_config of a type, or with fields, that our schemas do not have
 * becomes a TypedStruct of that type: every proxy opens it by its own. What is neither cannot be said in bytes: an error.
 */
bool mz_envoy_patch_value(const ist_EnvoyFilter_EnvoyConfigObjectPatch *p, struct mz_arena *a, ProtobufCMessage **out_msg,
                          struct mz_err *err);
/* Into @into, as Istio merges: durations are replaced, lists append or with @lists replace. @from is not used by itself any more. */
void mz_envoy_merge(ProtobufCMessage *into, const ProtobufCMessage *from, bool lists, struct mz_arena *a);
/* The same of two typed_configs of one type, also where one is a TypedStruct of it. False: they cannot be joined. */
bool mz_envoy_merge_any(pb_Any *into, const pb_Any *from, struct mz_arena *a, struct mz_err *err);
#endif
