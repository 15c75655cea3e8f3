/* Descriptors and timers of the sample programs: one thread, epoll. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/** First member of what has a descriptor. */
struct source {
    int fd;
    uint32_t wants;
    void (*ready)(struct source *s, uint32_t events);
    struct source *next_closed;
};

struct timer {
    int64_t due_ms; /* 0: not running */
    void (*fire)(struct timer *t);
    struct timer *next;
};

void loop_init(void);
/** Watches @s->fd for @events; false with errno. */
bool loop_add(struct source *s, uint32_t events);
void loop_want(struct source *s, uint32_t events);
/** Closes the descriptor; @s itself is free()d when the turn is over: other events of the turn may still name it. */
void loop_close(struct source *s);
/** @t fires once, after @ms at the earliest; starting a running one moves it. It is stopped before its memory goes. */
void timer_start(struct timer *t, int64_t ms, void (*fire)(struct timer *t));
void timer_stop(struct timer *t);
/** Until loop_stop(). */
void loop_run(void);
void loop_stop(void);
int64_t now_ms(void);
int64_t now_us(void);
