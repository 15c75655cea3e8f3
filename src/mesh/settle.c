/* "Ready" is told when a request would find what it needs: each proxy has what mizzend makes of the pods that are ready now. */
#include <netinet/in.h>

#include "base/clock.h"
#include "mesh/supervisor_priv.h"

enum { AGAIN_MS = 5, PATIENCE_US = 10000000, MONITORING = 15014 };

struct settling {
    struct supervisor *s;
    void (*done)(struct supervisor *s);
    struct mz_mesh_ask ask;
    struct mz_timer again;
    uint64_t began_us; /* 0: nobody waits */
};

static void look(struct settling *w)
{
    static const char request[] = "GET /debug/mizzen/settled HTTP/1.1\r\nhost: mizzend\r\n"
                                  "connection: close\r\n\r\n";
    const struct mz_mesh_ask_opts o = { .ns = -1,
                                        .back = -1,
                                        .ip = INADDR_LOOPBACK,
                                        .port = MONITORING,
                                        .request = request,
                                        .timeout_ms = 1000 };
    if (services_settled(w->s->services))
        mz_mesh_ask_start(&w->ask, &o);
    else
        mz_timer_start_ms(&w->again, AGAIN_MS);
}

static void on_again(struct mz_timer *t)
{
    look(MZ_CONTAINER(t, struct settling, again));
}

static void on_answer(struct mz_mesh_ask *a, int status)
{
    struct settling *w = MZ_CONTAINER(a, struct settling, ask);
    const bool patient = mz_clock->mono_us() - w->began_us < PATIENCE_US;
    if (w->s->stopping)
        return;
    if (status != 200 && patient) {
        mz_timer_start_ms(&w->again, AGAIN_MS);
        return;
    }
    w->began_us = 0;
    if (status != 200)
        say(w->s, "  some proxies have not taken yet what they were told (mizzenctl proxy-status)");
    w->done(w->s);
}

struct settling *settling_create(struct supervisor *s, void (*done)(struct supervisor *s))
{
    struct settling *w = mz_new0(MZ_MEM_MISC, struct settling);
    w->s = s;
    w->done = done;
    mz_mesh_ask_init(&w->ask, s->node.loop, on_answer);
    mz_timer_init(s->node.loop, &w->again, on_again);
    return w;
}

void settling_start(struct settling *w)
{
    if (w->began_us)
        return;
    w->began_us = mz_clock->mono_us();
    look(w);
}

void settling_destroy(struct settling *w)
{
    if (!w)
        return;
    mz_mesh_ask_stop(&w->ask);
    mz_timer_stop(&w->again);
    mz_free(MZ_MEM_MISC, w);
}
