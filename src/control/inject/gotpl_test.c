/* Templates: what each construct and function makes, what is refused, what is bounded. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/inject/gotpl.h"

static const char data_text[] =
    "{\"ObjectMeta\":{\"name\":\"web\",\"annotations\":{\"a/b\":\"yes\",\"n\":\"\"},\"labels\":{"
    "\"app\":\"shop\"}},"
    "\"Spec\":{\"containers\":[{\"name\":\"one\",\"ports\":[{\"containerPort\":80},{"
    "\"containerPort\":53,\"protocol\":\"UDP\"}]},{\"name\":\"two\"}],\"hostIP\":\"1.2.3.4\"},"
    "\"ProxyConfig\":{\"interceptionMode\":\"REDIRECT\",\"holdApplicationUntilProxyStarts\":true,"
    "\"proxyMetadata\":{\"B\":\"2\",\"A\":\"1\"}},"
    "\"Values\":{\"global\":{\"port\":15020,\"on\":true,\"off\":false,\"empty\":\"\",\"list\":[1,2,"
    "3],\"map\":{\"y\":{\"z\":1},\"x\":[\"q\"]},\"nil\":null}},\"Native\":false,\"UID\":1337}";

static struct mz_arena *arena;

static int up(void **state)
{
    (void)state;
    arena = mz_arena_create(MZ_MEM_STREAM);
    return 0;
}

static int down(void **state)
{
    (void)state;
    mz_arena_destroy(arena);
    return 0;
}

static const char *run(const char *text)
{
    struct mz_err err = { .path = "", .msg = "" };
    struct mz_gotpl *t = mz_gotpl_parse(mz_str_c(text), &err);
    json_t *data = json_loads(data_text, 0, NULL);
    struct mz_str out = MZ_STR("");
    assert_non_null(data);
    const bool ok = t && mz_gotpl_run(t, data, arena, &out, &err);
    mz_gotpl_destroy(t);
    json_decref(data);
    return ok ? out.p : mz_arena_printf(arena, "! %s", err.msg).p;
}

static const struct {
    const char *text, *out;
} cases[] = {
    { "", "" },
    { "a {{ 1 }} b", "a 1 b" },
    { "a  {{- 1 -}}  b", "a1b" },
    { "a\n{{- /* no */ -}}\nb{{/* }} */}}c", "abc" },
    { "{{ \"x\\t\\u00e9\\\"\" }}{{ `raw\\n` }}{{ true }}{{ 0x10 }}{{ -3 }}{{ 1.5 }}",
      "x\t\xc3\xa9\"raw\\ntrue16-31.5" },
    /* fields */
    { "{{ .ObjectMeta.Name }}{{ .Spec.HostIP }}{{ .UID }}{{ .Spec.None }}{{ .Nothing.At.All }}",
      "web1.2.3.41337" },
    { "{{ .ProxyConfig.InterceptionMode.String }}{{ .ProxyConfig.GetInterceptionMode }}{{ "
      ".ProxyConfig.HoldApplicationUntilProxyStarts.GetValue }}",
      "REDIRECTREDIRECTtrue" },
    { "{{ index .ObjectMeta.Annotations `a/b` }}{{ index .Spec.Containers 1 }}{{ (index "
      ".Spec.Containers 0).Name }}{{ index .ObjectMeta.Annotations `none` }}",
      "yesmap[name:two]one" },
    { "{{ $.UID }}{{ with .ObjectMeta }}{{ .Name }}{{ $.UID }}{{ end }}", "1337web1337" },
    /* variables and control */
    { "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ end }}{{ $x }}", "2" },
    { "{{ if .Native }}a{{ else if eq 1 2 }}b{{ else if .UID }}c{{ else }}d{{ end }}", "c" },
    { "{{ if not .Native }}a{{ end }}{{ with .Native }}b{{ else }}c{{ end }}", "ac" },
    { "{{ with .Native }}a{{ else with .UID }}{{ . }}{{ end }}", "1337" },
    { "{{ range $i, $c := .Spec.Containers }}{{ $i }}{{ $c.Name }},{{ end }}", "0one,1two," },
    { "{{ range .Values.global.list }}{{ if eq . 2 }}{{ continue }}{{ end }}{{ . }}{{ end }}",
      "13" },
    { "{{ range .Values.global.list }}{{ if eq . 2 }}{{ break }}{{ end }}{{ . }}{{ end }}", "1" },
    { "{{ range $k, $v := .ProxyConfig.ProxyMetadata }}{{ $k }}={{ $v }};{{ end }}", "A=1;B=2;" },
    { "{{ range .Spec.None }}a{{ else }}none{{ end }}", "none" },
    { "{{ $l := list }}{{ range .Spec.Containers }}{{ $l = append $l .Name }}{{ end }}{{ len $l }}",
      "2" },
    { "{{ define \"t\" }}<{{ . }}{{ $.x }}>{{ end }}{{ template \"t\" .UID }}",
      "! line 1: there is "
      "no field \"x\"" },
    { "{{ define \"t\" }}<{{ .Name }}>{{ end }}{{ template \"t\" .ObjectMeta }}", "<web>" },
    /* and, or stop where they can */
    { "{{ or false `` .UID (index .Values.global.list 9) }}", "1337" },
    { "{{ and .Native (index .Values.global.list 9) }}", "false" },
    { "{{ eq .Values.global.port 15020 }}{{ ne `a` `b` }}{{ eq 1 2 3 1 }}{{ lt 1 2 }}{{ ge 2 2 }}",
      "truetruetruetruetrue" },
    { "{{ eq .Values.global.none `` }}{{ eq .Values.global.none `x` }}", "truefalse" },
    { "{{ eq 1 `a` }}", "! line 1: cannot be compared with what it stands beside: \"a\"" },
    /* functions */
    { "{{ .Values.global.empty | default `d` }}{{ valueOrDefault .Values.global.off `d` }}{{ "
      ".Values.global.port | quote }}{{ squote `a` }}",
      "dfalse\"15020\"'a'" },
    { "{{ printf \"%s-%v-%d-%t-%q-%05d%%\" `a` 1 2 true `b` 42 }}", "a-1-2-true-\"b\"-00042%" },
    { "{{ printf \"%d\" `a` }}", "! line 1: cannot be formatted: \"%d\"" },
    { "a:\n  {{ toYaml .Values.global.map | indent 2 }}{{ toYaml .Values.global.map | nindent 4 }}",
      "a:\n  x:\n  - q\n  \"y\":\n    z: 1\n  \n    x:\n    - q\n    \"y\":\n      z: 1\n    " },
    { "{{ `-_a-b._` | trimAll `-_.` }}{{ trunc 2 `abc` }}{{ trunc -2 `abc` }}{{ upper `a` }}{{ "
      "toLower `B` }}",
      "a-babbcAb" },
    { "{{ contains `/` `a/b` }}{{ hasPrefix `a` `ab` }}{{ trimSuffix `b` `ab` }}{{ replace `a` `x` "
      "`aba` }}{{ join `,` (list 1 `b`) }}",
      "truetrueaxbx1,b" },
    { "{{ isset .ObjectMeta.Annotations `n` }}{{ annotation .ObjectMeta `a/b` `d` }}{{ annotation "
      ".ObjectMeta `c` 7 }}{{ includeInboundPorts .Spec.Containers }}",
      "trueyes780" },
    { "{{ excludeInboundPort 15020 `1, 2` }} {{ excludeInboundPort `2` `1,2` }} {{ "
      "excludeInboundPort 0 `9` }}",
      "1,2,15020 1,2 9" },
    { "{{ toJsonMap (strdict `b` `1` `a` `2`) (omit .ObjectMeta.Labels `app`) }}{{ structToJSON "
      ".Values.global.list }}{{ (fromJSON `{\"k\": [1]}`).k }}",
      "{\"a\":\"2\",\"b\":\"1\"}[1,2,3][1]" },
    { "{{ omitNil .Values.global | toJson }}",
      "{\"empty\":\"\",\"list\":[1,2,3],\"map\":{\"x\":[\"q\"],\"y\":{\"z\":1}},\"off\":false,"
      "\"on\":true,\"port\":15020}" },
    { "{{ add 1 2 }}{{ div 7 2 }}{{ mod 7 `4` }}{{ sub 1 2 }}{{ mul 2 3 }}", "333-16" },
    { "{{ div 1 0 }}", "! line 1: is divided by \"0\"" },
    { "{{ ternary `a` `b` .Values.global.on }}{{ coalesce `` 0 `c` }}{{ empty `` }}{{ has 2 (list "
      "1 "
      "2) }}{{ dict `a` 1 | toJson }}",
      "actruetrue{\"a\":1}" },
    { "{{ env `MIZZEN_NO_SUCH_VARIABLE` `d` }}{{ directory `/a/b` }}", "d/a/" },
    /* faults, with their lines */
    { "a\n{{ nothing }}", "! line 2: there is no function \"nothing\"" },
    { "\n\n{{ if true }}", "! line 3: an \"end\" is missing \"\"" },
    { "{{ end }}", "! line 1: without a beginning: \"end\"" },
    { "{{ if true }}{{ else }}{{ else }}{{ end }}", "! line 1: an \"end\" is missing \"\"" },
    { "{{ .A", "! line 1: an action does not end: \" .A\"" },
    { "{{ `a }}", "! line 1: an action does not end: \" `a }}\"" },
    { "{{ \"a\\z\" }}", "! line 1: a text does not end: \"\"a\\z\"\"" },
    { "{{ $x }}", "! line 1: there is no variable \"x\"" },
    { "{{ 1 | 2 }}", "! line 1: only functions take a value: \"\"" },
    { "{{ .A 1 }}", "! line 1: only functions have arguments: \"\"" },
    { "{{ index .Values.global.list 3 }}", "! line 1: the list has no element \"3\"" },
    { "{{ quote 1 ) }}", "! line 1: unexpected \")\"" },
    { "{{ template \"none\" . }}", "! line 1: there is no template \"none\"" },
    { "{{ len }}", "! line 1: a wrong number of arguments for \"len\"" },
    { "{{ define \"r\" }}{{ template \"r\" . }}{{ end }}{{ template \"r\" . }}",
      "! line 1: is nested too deeply \"\"" },
    { "{{ range 2000000 }}{{ end }}", "! line 1: takes too long \"\"" },
    { "{{ indent 9999 `a` }}", "! line 1: is no indentation: \"9999\"" },
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        if (strcmp(run(cases[i].text), cases[i].out) != 0)
            fail_msg("%s\nis \"%s\"\nnot \"%s\"", cases[i].text, run(cases[i].text), cases[i].out);
}

/* 4 MiB of output and no more; a text of 1 MiB and no more; parentheses as deep as the stack is ours. */
static void test_bounds(void **state)
{
    (void)state;
    assert_non_null(
        strstr(run("{{ $x := `0123456789abcdef0123456789abcdef` }}{{ range 200000 }}{{ $x "
                   "}}{{ end }}"),
               "makes too much text"));
    char *deep = calloc(1, 3000000);
    memcpy(deep, "{{ ", 3);
    memset(deep + 3, '(', 1000);
    memcpy(deep + 1003, " }}", 4);
    assert_non_null(strstr(run(deep), "is nested too deeply"));
    memset(deep, 'a', 2000000);
    assert_non_null(strstr(run(deep), "at most"));
    deep[0] = 0;
    for (int i = 0; i < 100; i++)
        memcpy(deep + strlen(deep), "{{ if 1 }}", 11);
    assert_non_null(strstr(run(deep), "is nested too deeply"));
    free(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cases, up, down),
        cmocka_unit_test_setup_teardown(test_bounds, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
