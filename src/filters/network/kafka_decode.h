#ifndef MZ_FILTERS_NETWORK_KAFKA_DECODE_H
#define MZ_FILTERS_NETWORK_KAFKA_DECODE_H
/*
 * Kafka's protocol as somebody sees it who only listens (L5): heads of requests and responses, each with its size. What a
 * response is says the request of the same correlation id. Both directions come in pieces of any size; bodies are not read.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Number, name and highest version of each request of Kafka 3.9; numbers are indices. */
#define KAFKA_APIS(X)                                                                                                 \
    X(0, "produce", 11) X(1, "fetch", 17) X(2, "list_offsets", 10) X(3, "metadata", 12) X(4, "leader_and_isr", 7)     \
    X(5, "stop_replica", 4) X(6, "update_metadata", 8) X(7, "controlled_shutdown", 3) X(8, "offset_commit", 9)        \
    X(9, "offset_fetch", 9) X(10, "find_coordinator", 6) X(11, "join_group", 9) X(12, "heartbeat", 4)                 \
    X(13, "leave_group", 5) X(14, "sync_group", 5) X(15, "describe_groups", 5) X(16, "list_groups", 5)                \
    X(17, "sasl_handshake", 1) X(18, "api_versions", 4) X(19, "create_topics", 7) X(20, "delete_topics", 6)           \
    X(21, "delete_records", 2) X(22, "init_producer_id", 5) X(23, "offset_for_leader_epoch", 4)                       \
    X(24, "add_partitions_to_txn", 5) X(25, "add_offsets_to_txn", 4) X(26, "end_txn", 5)                              \
    X(27, "write_txn_markers", 1) X(28, "txn_offset_commit", 4) X(29, "describe_acls", 3) X(30, "create_acls", 3)     \
    X(31, "delete_acls", 3) X(32, "describe_configs", 4) X(33, "alter_configs", 2)                                    \
    X(34, "alter_replica_log_dirs", 2) X(35, "describe_log_dirs", 4) X(36, "sasl_authenticate", 2)                    \
    X(37, "create_partitions", 3) X(38, "create_delegation_token", 3) X(39, "renew_delegation_token", 2)              \
    X(40, "expire_delegation_token", 2) X(41, "describe_delegation_token", 3) X(42, "delete_groups", 2)               \
    X(43, "elect_leaders", 2) X(44, "incremental_alter_configs", 1) X(45, "alter_partition_reassignments", 0)         \
    X(46, "list_partition_reassignments", 0) X(47, "offset_delete", 0) X(48, "describe_client_quotas", 1)             \
    X(49, "alter_client_quotas", 1) X(50, "describe_user_scram_credentials", 0)                                       \
    X(51, "alter_user_scram_credentials", 0) X(52, "vote", 1) X(53, "begin_quorum_epoch", 1)                          \
    X(54, "end_quorum_epoch", 1) X(55, "describe_quorum", 2) X(56, "alter_partition", 3) X(57, "update_features", 2)  \
    X(58, "envelope", 0) X(59, "fetch_snapshot", 1) X(60, "describe_cluster", 1) X(61, "describe_producers", 0)       \
    X(62, "broker_registration", 4) X(63, "broker_heartbeat", 1) X(64, "unregister_broker", 0)                        \
    X(65, "describe_transactions", 0) X(66, "list_transactions", 1) X(67, "allocate_producer_ids", 0)                 \
    X(68, "consumer_group_heartbeat", 1) X(69, "consumer_group_describe", 0) X(70, "controller_registration", 0)      \
    X(71, "get_telemetry_subscriptions", 0) X(72, "push_telemetry", 0) X(73, "assign_replicas_to_dirs", 0)            \
    X(74, "list_client_metrics_resources", 0) X(75, "describe_topic_partitions", 0)                                   \
    X(76, "share_group_heartbeat", 0) X(77, "share_group_describe", 0) X(78, "share_fetch", 0)                        \
    X(79, "share_acknowledge", 0) X(80, "add_raft_voter", 0) X(81, "remove_raft_voter", 0)                            \
    X(82, "update_raft_voter", 0) X(83, "initialize_share_group_state", 0) X(84, "read_share_group_state", 0)         \
    X(85, "write_share_group_state", 0) X(86, "delete_share_group_state", 0)                                          \
    X(87, "read_share_group_state_summary", 0)
#define KAFKA_N_APIS    88
#define KAFKA_OPEN_MAX  1024                /* requests without a response yet; the oldest are forgotten then */
#define KAFKA_FRAME_MAX (1u << 30) /* bytes of a message */

struct kafka_open { /* a request whose response has not come */
    int32_t correlation;
    int16_t key, version;
    bool known;
    uint64_t start_us;
};
struct kafka_side {
    unsigned char head[12]; /* size; key, version and id of a request, id of a response */
    uint8_t head_n;
    bool deaf; /* what came is no Kafka */
    uint32_t left; /* bytes of the message behind the head that are still to come */
};
struct kafka_message {
    bool request, known; /* key and version are among those above */
    int16_t key, version;
    uint64_t took_us; /* of a response: since the whole request had come */
};
struct kafka { /* zeroed but for the callbacks */
    struct kafka_side sides[2]; /* [1]: client */
    struct kafka_open *open;    /* in the order of their requests */
    size_t n_open, cap_open;
    void (*message)(void *arg, const struct kafka_message *m); /* each once, when its last byte has come */
    void (*broken)(void *arg, bool from_client); /* once a side: nothing more is read of it */
    void *arg;
};
void kafka_feed(struct kafka *k, bool from_client, const char *bytes, size_t n, uint64_t now_us);
void kafka_fini(struct kafka *k);
#endif
