#ifndef MZ_UPSTREAM_CLUSTER_LB_H
#define MZ_UPSTREAM_CLUSTER_LB_H
/* Pieces of a cluster's load balancing configuration (U2): each checks a part of a message and writes it into the cluster. */
#include "upstream/upstream_priv.h"

bool lb_bias_build(const pb_RuntimeDouble *m, struct mz_cluster *c, struct mz_err *err);
bool lb_choice_build(const pb_UInt32Value *m, struct lb_config *lb, struct mz_err *err);
bool lb_slow_build(const pb_Duration *window, const pb_RuntimeDouble *aggression,
                   const pb_Percent *least, struct mz_cluster *c, struct mz_err *err);
bool lb_zone_build(const pb_Percent *enabled, const pb_UInt64Value *least, struct lb_config *lb,
                   struct mz_err *err);
bool lb_ring_build(const pb_UInt64Value *least, const pb_UInt64Value *most, bool murmur,
                   struct lb_config *lb, struct mz_err *err);
bool lb_maglev_build(const pb_UInt64Value *size, struct lb_config *lb, struct mz_err *err);
bool lb_balance_build(const pb_UInt32Value *factor, struct lb_config *lb, struct mz_err *err);
bool lb_consistent_build(const pb_ConsistentHashingLbConfig *m, struct lb_config *lb,
                         struct mz_err *err);
bool lb_extension_build(const pb_LoadBalancingPolicy *m, struct mz_cluster *c, struct mz_err *err);
#endif
