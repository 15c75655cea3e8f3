#include "base/log.h"
#include "event/loop_priv.h"

/* Longest duration: 34 years; longer ones are cut, so that sums cannot overflow. */
#define LONGEST_MS ((uint64_t)1 << 40)
/* Timers of one place that are looked at to find the exact next due time, before its begin is taken
 * instead. */
#define SCAN_MAX 64

void mz_wheel_init(struct mz_wheel *w, uint64_t now_ms)
{
    *w = (struct mz_wheel){ .pos_ms = now_ms, .next_ms = UINT64_MAX };
    mz_list_init(&w->now);
    for (unsigned i = 0; i < MZ_WHEEL_LEVELS; i++)
        for (unsigned k = 0; k < 64; k++)
            mz_list_init(&w->slots[i][k]);
}

static void place(struct mz_wheel *w, struct mz_timer *t)
{
    uint64_t due = t->due_ms;
    t->placed_ms = due ? due : 1;
    if (due <= w->pos_ms) {
        mz_list_add_tail(&w->now, &t->link);
        return;
    }
    unsigned level = (63U - (unsigned)__builtin_clzll(due ^ w->pos_ms)) / 6;
    if (MZ_UNLIKELY(level >= MZ_WHEEL_LEVELS))
        level = MZ_WHEEL_LEVELS - 1;
    unsigned slot = (due >> (6 * level)) & 63;
    w->bits[level] |= (uint64_t)1 << slot;
    mz_list_add_tail(&w->slots[level][slot], &t->link);
}

static void unplace(struct mz_wheel *w, struct mz_timer *t)
{
    struct mz_list *next = t->link.next;
    bool last = next == t->link.prev; /* then it is the head of the list */
    mz_list_del(&t->link);
    t->placed_ms = 0;
    if (!last || next < &w->slots[0][0] || next > &w->slots[MZ_WHEEL_LEVELS - 1][63])
        return;
    size_t i = (size_t)(next - &w->slots[0][0]);
    w->bits[i / 64] &= ~((uint64_t)1 << (i % 64));
}

/* The earliest place: its level and slot, its begin in ms. False when the wheel is empty. */
static bool first_place(const struct mz_wheel *w, unsigned *out_level, unsigned *out_slot,
                        uint64_t *out_begin_ms)
{
    for (unsigned level = 0; level < MZ_WHEEL_LEVELS; level++) {
        if (!w->bits[level])
            continue;
        unsigned slot = (unsigned)__builtin_ctzll(w->bits[level]);
        uint64_t above = w->pos_ms >> (6 * (level + 1)) << (6 * (level + 1));
        *out_level = level;
        *out_slot = slot;
        *out_begin_ms = above + ((uint64_t)slot << (6 * level));
        return true;
    }
    return false;
}

/* Moves what is due at now_ms to @due, in order of time. Coarse places are spread over the finer
 * levels on the way. */
static void collect(struct mz_wheel *w, uint64_t now_ms, struct mz_list *due)
{
    while (!mz_list_empty(&w->now)) {
        struct mz_list *e = w->now.next;
        mz_list_del(e);
        mz_list_add_tail(due, e);
    }
    unsigned level, slot;
    for (uint64_t begin; first_place(w, &level, &slot, &begin) && begin <= now_ms;) {
        if (begin > w->pos_ms)
            w->pos_ms = begin;
        struct mz_list *head = &w->slots[level][slot];
        w->bits[level] &= ~((uint64_t)1 << slot);
        while (!mz_list_empty(head)) {
            struct mz_timer *t = MZ_CONTAINER(head->next, struct mz_timer, link);
            mz_list_del(&t->link);
            if (t->due_ms <= w->pos_ms)
                mz_list_add_tail(due, &t->link);
            else
                place(w, t); /* a finer level, or it was started again for later */
        }
    }
    if (now_ms > w->pos_ms)
        w->pos_ms = now_ms;
}

/* The earliest due time in the first place; timers that were put off beyond that place move where
 * they belong. False: none was left there. */
static bool scan_place(struct mz_wheel *w, struct mz_list *head, uint64_t begin, uint64_t end,
                       uint64_t *out_next_ms)
{
    uint64_t next = UINT64_MAX;
    unsigned seen = 0;
    mz_list_foreach (e, head) {
        struct mz_timer *t = MZ_CONTAINER(e, struct mz_timer, link);
        if (++seen > SCAN_MAX) {
            next = begin;
            break;
        }
        if (t->due_ms >= end) {
            unplace(w, t);
            place(w, t);
        } else if (t->due_ms < next) {
            next = t->due_ms;
        }
    }
    *out_next_ms = next;
    return next != UINT64_MAX;
}

static uint64_t find_next(struct mz_wheel *w)
{
    if (!mz_list_empty(&w->now))
        return w->pos_ms;
    unsigned level, slot;
    uint64_t begin, next;
    while (first_place(w, &level, &slot, &begin))
        if (scan_place(w, &w->slots[level][slot], begin, begin + ((uint64_t)1 << (6 * level)),
                       &next))
            return next;
    return UINT64_MAX;
}

void mz_wheel_run(struct mz_wheel *w, uint64_t now_ms)
{
    struct mz_list due;
    mz_list_init(&due);
    collect(w, now_ms, &due);
    while (!mz_list_empty(&due)) {
        struct mz_timer *t = MZ_CONTAINER(due.next, struct mz_timer, link);
        mz_list_del(&t->link);
        t->placed_ms = 0;
        if (t->due_ms > now_ms)
            place(w, t); /* an earlier callback of this run put it off */
        else
            t->fire(t);
    }
    w->next_ms = find_next(w);
}

void mz_timer_init(struct mz_loop *l, struct mz_timer *t, void (*fire)(struct mz_timer *t))
{
    *t = (struct mz_timer){ .loop = l, .fire = fire };
    mz_list_init(&t->link);
}

static void start_at(struct mz_timer *t, uint64_t due_ms)
{
    struct mz_wheel *w = &t->loop->wheel;
    t->due_ms = due_ms;
    if (t->placed_ms) {
        if (due_ms >= t->placed_ms)
            return;
        unplace(w, t);
    }
    place(w, t);
    if (due_ms < w->next_ms)
        w->next_ms = due_ms;
}

void mz_timer_start_ms(struct mz_timer *t, uint64_t from_now_ms)
{
    MZ_ASSERT(mz_loop_here(t->loop));
    if (from_now_ms > LONGEST_MS)
        from_now_ms = LONGEST_MS;
    /* Rounded up, so that it never fires early; 0 means the next look at the timers. */
    start_at(t, from_now_ms ? t->loop->now_ms_up + from_now_ms : t->loop->now_ms);
}

void mz_timer_start_us(struct mz_timer *t, uint64_t from_now_us)
{
    MZ_ASSERT(mz_loop_here(t->loop));
    if (from_now_us > LONGEST_MS * 1000)
        from_now_us = LONGEST_MS * 1000;
    start_at(t, from_now_us ? (t->loop->now_us + from_now_us + 999) / 1000 : t->loop->now_ms);
}

void mz_timer_stop(struct mz_timer *t)
{
    if (t->placed_ms)
        unplace(&t->loop->wheel, t);
}
