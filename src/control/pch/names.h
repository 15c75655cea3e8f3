/* What nearly every file that knows messages reads first, precompiled with -Dprecompiled=true (script/options.sh). Nothing of ours but what
 * is generated: an edit of a header compiles no more than without it. Nothing of the system that a file of ours may not want. */
#include <assert.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "control/names.h"
#include "proto/names.h"
