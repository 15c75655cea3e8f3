/* Tokens and who knows them: our own issuers, and one that answers later, as Kubernetes' TokenReview does. */
#include "base/test.h"

#include "control/ca/caller.h"
#include "control/ca/token.h"

/* Knows the token "pod" and thinks about each. */
struct desk {
    struct mz_reviewer reviewer;
    struct mz_review *open; /* NULL: nobody asks */
    bool at_once;
    unsigned asked, cancelled;
};
static struct {
    struct mz_tokens *tokens;
    struct desk desk;
    struct mz_callers callers;
    struct mz_arena *arena;
    struct mz_caller_ask ask;
    unsigned known, unknown;
} t;

static enum mz_reviewed judge(struct mz_review *r)
{
    if (!mz_str_eq(r->token, MZ_STR("pod"))) {
        (void)mz_err_set(&r->err, "the token is not authenticated");
        return MZ_REVIEW_BAD;
    }
    r->who = (struct mz_account){ MZ_STR("demo"), MZ_STR("web") };
    return MZ_REVIEW_GOOD;
}

static enum mz_reviewed desk_begin(struct mz_reviewer *v, struct mz_review *r)
{
    struct desk *d = MZ_CONTAINER(v, struct desk, reviewer);
    d->asked++;
    if (d->at_once)
        return judge(r);
    assert_null(d->open);
    d->open = r;
    r->state = d;
    return MZ_REVIEW_LATER;
}

static void desk_cancel(struct mz_reviewer *v, struct mz_review *r)
{
    struct desk *d = MZ_CONTAINER(v, struct desk, reviewer);
    assert_ptr_equal(d->open, r);
    d->open = NULL;
    d->cancelled++;
}

static void desk_answer(void)
{
    struct mz_review *r = t.desk.open;
    t.desk.open = NULL;
    r->done(r, judge(r));
}

static void done(struct mz_caller_ask *q, bool known)
{
    assert_ptr_equal(q, &t.ask);
    t.known += known;
    t.unknown += !known;
}

static int up(void **state)
{
    static const struct mz_reviewer_ops ops = { "desk", desk_begin, desk_cancel };
    const struct mz_tokens_opts o = { 0 };
    struct mz_err err;
    (void)state;
    memset(&t, 0, sizeof(t));
    t.tokens = mz_tokens_create(&o, &err);
    t.arena = mz_arena_create(MZ_MEM_TLS);
    t.desk.reviewer.ops = &ops;
    t.callers =
        (struct mz_callers){ { mz_tokens_reviewer(t.tokens), &t.desk.reviewer }, 2, MZ_STR("td") };
    t.ask.done = done;
    return 0;
}

static int down(void **state)
{
    (void)state;
    mz_tokens_destroy(t.tokens);
    mz_arena_destroy(t.arena);
    return 0;
}

static enum mz_caller_found find(struct mz_str token)
{
    return mz_caller_find_token(&t.callers, token, t.arena, &t.ask);
}

static void test_our_own_is_known_at_once(void **state)
{
    (void)state;
    const struct mz_account who = { MZ_STR("demo"), MZ_STR("api") };
    assert_int_equal(find(mz_tokens_make(t.tokens, who, 60, t.arena)), MZ_CALLER_KNOWN);
    assert_true(mz_str_eq(t.ask.who.identity, MZ_STR("spiffe://td/ns/demo/sa/api")));
    assert_int_equal(t.desk.asked, 0);
}

static void test_another_is_asked_and_answers_later(void **state)
{
    (void)state;
    assert_int_equal(find(MZ_STR("pod")), MZ_CALLER_WAITING);
    assert_int_equal(t.known + t.unknown, 0);
    desk_answer();
    assert_int_equal(t.known, 1);
    assert_true(mz_str_eq(t.ask.who.identity, MZ_STR("spiffe://td/ns/demo/sa/web")));
    assert_int_equal(find(MZ_STR("nobody")), MZ_CALLER_WAITING);
    desk_answer();
    assert_int_equal(t.unknown, 1);
    assert_non_null(strstr(t.ask.err.msg, "Jwt")); /* why our own refused it */
    t.desk.at_once = true;
    assert_int_equal(find(MZ_STR("pod")), MZ_CALLER_KNOWN);
    assert_int_equal(find(MZ_STR("nobody")), MZ_CALLER_UNKNOWN);
    assert_int_equal(t.known + t.unknown, 2);
}

/* The first that knows it counts; one behind it may think, too. */
static void test_the_order(void **state)
{
    (void)state;
    const struct mz_account who = { MZ_STR("demo"), MZ_STR("api") };
    t.callers.reviewers[0] = &t.desk.reviewer;
    t.callers.reviewers[1] = mz_tokens_reviewer(t.tokens);
    assert_int_equal(find(mz_tokens_make(t.tokens, who, 60, t.arena)), MZ_CALLER_WAITING);
    desk_answer();
    assert_int_equal(t.known, 1);
    assert_true(mz_str_eq(t.ask.who.account.name, MZ_STR("api")));
}

static void test_who_leaves_is_forgotten(void **state)
{
    (void)state;
    assert_int_equal(find(MZ_STR("pod")), MZ_CALLER_WAITING);
    mz_caller_cancel(&t.ask);
    mz_caller_cancel(&t.ask);
    assert_int_equal(t.desk.cancelled, 1);
    assert_int_equal(t.known + t.unknown, 0);
    t.callers.reviewers_n = 0;
    assert_int_equal(find(MZ_STR("pod")), MZ_CALLER_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_our_own_is_known_at_once, up, down),
        cmocka_unit_test_setup_teardown(test_another_is_asked_and_answers_later, up, down),
        cmocka_unit_test_setup_teardown(test_the_order, up, down),
        cmocka_unit_test_setup_teardown(test_who_leaves_is_forgotten, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
