#ifndef MZ_GRPC_SERVER_PRIV_H
#define MZ_GRPC_SERVER_PRIV_H
/* Between server.c (listeners, connections) and serving.c (calls). One loop's. */
#include "base/list.h"
#include "grpc/frame.h"
#include "grpc/server.h"
#include "http/codec.h"
#include "net/conn.h"

#define SERVER_TABLES 8
struct mz_grpc_server {
    struct mz_loop *loop;
    struct server_methods {
        const struct mz_grpc_handler *v;
        size_t n;
        void *arg;
    } methods[SERVER_TABLES];
    size_t n_methods;
    struct mz_grpc_server_opts o;
    struct mz_http2_opts http2;
    struct mz_list listeners, conns, calls;
    unsigned n_conns, n_calls;
    bool draining;
};
struct server_conn {
    struct mz_list link;
    struct mz_grpc_server *server;
    struct mz_conn *conn; /* NULL once closed */
    struct mz_codec *codec;
    struct mz_timer idle;
    unsigned n_calls; /* of those that are not gone */
};
struct mz_grpc_serving {
    struct mz_list link; /* of the server's calls */
    struct mz_grpc_server *server;
    struct server_conn *conn; /* outlives the turn in which this goes */
    struct mz_addr peer;
    struct mz_arena *arena; /* holds this, too */
    struct mz_stream_enc *enc; /* NULL: the codec has let go of it */
    const struct mz_grpc_handler *handler; /* NULL: no such method */
    void *handler_arg;
    void *object;
    struct mz_grpc_decoder decoder;
    struct mz_buf in, queue;
    unsigned read_disabled;
    bool begun, headers_sent, paused, refused, draining;
    bool half_closed, half_close_told;
    bool finish; /* a status is to be sent */
    bool over;   /* nothing of the handler runs any more but gone */
    int code;
    struct mz_str message;
    struct mz_timer deadline;
    struct mz_task settle;
};
/* server.c */
void server_conn_calls(struct server_conn *c, int change);
/* serving.c */
void serving_create(struct server_conn *c, struct mz_stream_enc *enc, struct mz_stream_in *out_in);
void serving_gone(struct mz_grpc_serving *c); /* tells the handler and frees */
#endif
