#include "bookinfo.h"

/* The facts of the field's sample, so that what people know of it is here, too; the sentences are ours. */
const struct book book = {
    .title = "The Comedy of Errors",
    .author = "William Shakespeare",
    .about = "Two pairs of twins, parted by a storm when they were small, come to the same town "
             "without knowing it. Wives, "
             "merchants and the law take each for the other, and by nightfall nobody is sure who "
             "he is. It is one of the "
             "earliest of the plays, the shortest, and all of it happens in a day.",
    .type = "paperback",
    .publisher = "PublisherA",
    .language = "English",
    .isbn10 = "1234567890",
    .isbn13 = "123-1234567890",
    .year = 1595,
    .pages = 200,
};

const char *const review_texts[2] = {
    "I laughed until the lamp went out. Every door opens at the wrong moment, and the wrong man is "
    "always behind it.",
    "Very funny and very quick. A little thin beside the great comedies, but who can be cross with "
    "so much mistaken "
    "identity?",
};
