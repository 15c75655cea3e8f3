"""The filter lua (H9, F11): calls that outlive their stream, limits of scripts, what scripts cannot do. What the API gives stands in
tests/conformance/envoy/lua-api, beside what Envoy said."""
import threading

import config
import pytest
from chain import own, send, start, story
from upstream import Reply
from wire import reset, until

NAME = "envoy.filters.http.lua"


def lua(code, **fields):
    return config.ext(NAME, "envoy.extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": code}, **fields)


def per_route(**fields):
    return own(NAME, "envoy.extensions.filters.http.lua.v3.LuaPerRoute", **fields)


def call(options="5000"):
    return 'h:httpCall("side", {[":method"]="POST", [":path"]="/side", [":authority"]="s"}, "x", %s)' % options


def with_side(mesh, code, script=None, **kw):
    up, side = mesh.upstream(), mesh.upstream("side", script)
    start(mesh, [lua(code)], upstreams=[up, side], **kw)
    return up, side, mesh.proxies[-1]


def refused(mesh, filt):
    m = config.hcm([config.route("/")], filters=[filt])
    return mesh.proxy(boot=config.bootstrap([config.listener(0, [m])], [config.cluster("up", [1])], 0), ready=False)


@pytest.mark.parametrize("how", ["reset", "close"])
def test_F11_client_goes_while_a_call_is_pending(mesh, how):
    """The call is cancelled with its stream; nobody is there when the answer comes, and the machine serves the next request."""
    gone = threading.Event()
    up, side, px = with_side(mesh, f'function envoy_on_request(h) local hs = {call()} h:headers():add("x-side", hs[":status"]) end',
                             [Reply().held(gone), Reply(201)])
    with px.client() as c:
        c.send(b"GET /gone HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: side.requests, what="the call")
        reset(c.sock) if how == "reset" else c.close()
        px.wait_stat("http.in.downstream_rq_rx_reset")
        px.wait_stat("cluster.side.upstream_cx_destroy_local_with_active_rq")
    gone.set()
    assert send(px).status == 200 and up.requests[-1].get("x-side") == "201"
    assert len(up.requests) == 1 and px.stat("http.in.lua.errors") == 0


def test_F11_a_call_nobody_waits_for_outlives_its_stream(mesh):
    late = threading.Event()
    up, side, px = with_side(mesh, f"function envoy_on_request(h) {call('{asynchronous = true}')} end", [Reply().held(late)])
    assert send(px).status == 200
    until(lambda: side.requests, what="the call")
    assert side.requests[0].body == b"x"
    late.set()
    px.wait_stat("cluster.side.upstream_rq_completed")
    assert send(px).status == 200 and len(up.requests) == 2


def test_call_times_out(mesh):
    never = threading.Event()
    up, side, px = with_side(mesh, f'function envoy_on_request(h) local hs, b = {call("50")} h:headers():add("x-side", hs[":status"] .. " " .. b) end',
                             [Reply().held(never)])
    assert send(px).status == 200 and up.requests[0].get("x-side") == "504 upstream request timeout"
    never.set()


def test_body_that_comes_during_a_call_waits(mesh):
    """A large body meets the stream's limit and is not refused: it waits in the client's socket."""
    asked, go = threading.Event(), threading.Event()
    up, side, px = with_side(mesh, f'function envoy_on_request(h) local hs = {call("20000")} h:headers():add("x-side", hs[":status"]) end',
                             [Reply().held(go)])
    body = b"b" * 3_000_000
    with px.client() as c:
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body))
        sender = threading.Thread(target=lambda: c.send(body))
        sender.start()
        until(lambda: side.requests, what="the call")
        px.wait_stat("http.in.downstream_flow_control_paused_reading_total")
        go.set()
        assert c.response("POST", timeout=20).status == 200
        sender.join()
    assert up.requests[0].body == body and up.requests[0].get("x-side") == "200"


def test_E07_body_that_is_too_large_for_a_script(mesh):
    up, px = start(mesh, [lua('function envoy_on_request(h) local n = h:body():length() h:headers():add("x-n", n) end')])
    with px.client() as c:
        c.send(b"POST /large HTTP/1.1\r\nhost: a\r\ncontent-length: 2000000\r\n\r\n" + b"x" * 1_500_000)
        assert c.response("POST").status == 413
    assert up.requests == [] and px.wait_log(lambda e: e["path"] == "/large")["details"] == "request_payload_too_large"
    assert send(px, "POST", body=b"fits").status == 200 and up.requests[0].get("x-n") == "4"


LOOPS = {
    "loop": "while true do end",
    "caught": "while true do pcall(function() while true do end end) end",
    "coroutines": "while true do local c = coroutine.wrap(function() while true do end end) pcall(c) end",
    "strings": "local t = {} while true do t[#t % 9 + 1] = ('x'):rep(100000) end",
}
GREEDY = {
    "memory": "local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end",
    "headers": "while true do h:headers():add('x-many', ('x'):rep(1000)) end",
    "metadata": "local t = {} t.t = t h:streamInfo():dynamicMetadata():set('a', 'b', t)",
}


def by_path(mesh, scripts, runtime):
    routes = [{"match": {"prefix": "/" + n}, "route": {"cluster": "up"},
               "typed_per_filter_config": per_route(source_code={"inline_string": f"function envoy_on_request(h) {code} end"})}
              for n, code in scripts.items()] + [config.route("/")]
    return start(mesh, [lua("")], routes, runtime=runtime)


def test_a_script_cannot_stop_the_proxy(mesh):
    """A turn has its time (Envoy's has none). A request whose script used it up is not let through."""
    up, px = by_path(mesh, LOOPS, {"mizzen.lua.max_turn_ms": 20})
    assert {n: send(px, path="/" + n).status for n in LOOPS} == {n: 500 for n in LOOPS}
    assert px.stat("http.in.lua.errors") == len(LOOPS)
    assert px.wait_log(lambda e: e["path"] == "/loop")["details"] == "lua_limit_exceeded"
    assert "script failed" in story(px, "/loop")
    assert send(px).status == 200 and len(up.requests) == 1


def test_a_script_cannot_take_all_memory(mesh):
    """A machine has its memory, and a run what it may hand over; the latter fails as any script may, and Envoy lets pass."""
    up, px = by_path(mesh, GREEDY, {"mizzen.lua.max_bytes": 16 << 20, "mizzen.lua.max_turn_ms": 10000})
    assert {n: send(px, path="/" + n).status for n in GREEDY} == {"memory": 500, "headers": 200, "metadata": 200}
    assert px.stat("http.in.lua.errors") == len(GREEDY) and len(up.requests) == 2
    assert px.wait_log(lambda e: e["path"] == "/memory")["details"] == "lua_limit_exceeded"
    assert send(px).status == 200


def test_limit_on_the_answers_way(mesh):
    up, px = start(mesh, [lua("function envoy_on_response(h) while true do end end")], runtime={"mizzen.lua.max_turn_ms": 20})
    with px.client() as c:
        c.send(b"GET /answer HTTP/1.1\r\nhost: a\r\n\r\n")
        assert c.ended() in ("eof", "reset")
    assert px.wait_log(lambda e: e["path"] == "/answer")["details"] == "lua_limit_exceeded"


def test_script_that_does_not_end_is_refused(mesh):
    px = refused(mesh, lua("while true do end"))
    assert px.process.wait(60) == 1 and "script load error" in px.log() and "script ran for more than 1000 ms" in px.log()


def test_what_scripts_have_not(mesh, tmp_path):
    module = tmp_path / "own.lua"
    module.write_text("return { answer = function() return 'of a file' end }")
    (tmp_path / "code.lua").write_bytes(b"\x1bLJ\x02")
    code = """
local gone = {}
for _, n in ipairs{"io", "debug", "ffi", "jit", "newproxy"} do if _G[n] ~= nil then gone[#gone + 1] = n end end
for _, n in ipairs{"exit", "execute", "remove", "rename", "tmpname", "setlocale"} do if os[n] ~= nil then gone[#gone + 1] = n end end
if package.loadlib or package.cpath or string.dump or pcall(require, "ffi") then gone[#gone + 1] = "modules" end
package.path = "FOLDER/?.lua"
local own = require("own")
function envoy_on_request(h)
  local out = { table.concat(gone, ","), own.answer(), dofile("FOLDER/own.lua").answer() }
  out[#out + 1] = tostring(load("\\27LJ\\2")) .. tostring(loadstring("\\27LJ\\2", "x", "b")) .. tostring((loadfile("FOLDER/code.lua")))
  out[#out + 1] = tostring(loadfile("/dev/zero")) .. tostring(loadfile("FOLDER/none"))
  out[#out + 1] = tostring(load("return 1 + 1")()) .. tostring(getmetatable(h)) .. tostring(getmetatable(h:headers()))
  out[#out + 1] = tostring(os.getenv("PATH") ~= nil) .. tostring(os.time() > 0) .. type(collectgarbage("count")) .. select("#", table.unpack{1, 2})
  print("printed", 1, nil)
  h:respond({[":status"] = "200"}, table.concat(out, "|"))
end""".replace("FOLDER", str(tmp_path))
    _, px = start(mesh, [lua(code)])
    assert send(px).body.decode() == "|of a file|of a file|nilnilnil|nilnil|2falsefalse|truetruenumber2"
    assert "script print: printed\\t1\\tnil" in px.log()


def test_messages_stay_whole(mesh):
    """B05: neither line ends nor what frames a message comes from a script."""
    code = """
local function try(f) local ok, e = pcall(f) return ok and "ok" or e:gsub("^.*: ", "") end
function envoy_on_request(h)
  local hs, out = h:headers(), {}
  for _, v in ipairs{"a\\r\\nx: y", "a\\0b"} do out[#out + 1] = try(function() hs:add("x-v", v) end) end
  out[#out + 1] = try(function() hs:add("x y", "v") end)
  out[#out + 1] = try(function() hs:replace(":path", "no slash") end)
  out[#out + 1] = try(function() hs:remove(":method") end)
  hs:add("transfer-encoding", "chunked")
  hs:add("content-length", "100")
  hs:remove("content-length")
  hs:add("x-out", table.concat(out, ";"))
  if hs:get(":path") == "/r" then
    h:respond({[":status"] = "200", ["transfer-encoding"] = "chunked", ["content-length"] = "3", ["connection"] = "close", ["x-ok"] = "1"}, "four")
  end
end"""
    up, px = start(mesh, [lua(code)])
    assert send(px).status == 200
    assert up.requests[0].get("x-out") == "x-v;x-v;x y;:path;a message cannot do without :method"
    assert up.requests[0].get("transfer-encoding") is None and up.requests[0].get("content-length") is None
    r = send(px, path="/r")
    assert (r.status, r.body, r.get("content-length"), r.get("x-ok"), r.get("transfer-encoding")) == (200, b"four", "4", "1", None)


def test_trailers(mesh):
    code = """
function envoy_on_request(h)
  local n = 0
  for c in h:bodyChunks() do n = n + c:length() end
  local t = h:trailers()
  t:add("x-seen", t:get("x-t") .. n)
  t:remove("x-t")
end"""
    up, px = start(mesh, [lua(code)], http_protocol_options={"enable_trailers": True},
                   clusters=[config.cluster("up", [mesh.upstream().port], http={"explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}})],
                   upstreams=[mesh.upstreams[0]])
    with px.client() as c:
        c.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: v\r\n\r\n")
        assert c.response("POST").status == 200
    assert dict(up.requests[0].trailers) == {"x-seen": "v3"}


def test_coroutines_of_scripts(mesh):
    """They may ask, but only the script itself can wait."""
    code = """
function envoy_on_request(h)
  local co = coroutine.wrap(function() coroutine.yield(h:headers():get(":path")) end)
  local path = co()
  local ok, err = coroutine.resume(coroutine.create(function() return h:body() end))
  h:headers():add("x-out", path .. " " .. tostring(ok) .. " " .. err)
end"""
    up, px = start(mesh, [lua(code)])
    assert send(px, "POST", "/co", body=b"x").status == 200
    assert up.requests[0].get("x-out") == "/co false a coroutine of the script's own cannot wait for the proxy"


def test_override_host(mesh):
    a, b = mesh.upstream("a"), mesh.upstream("b")
    code = 'function envoy_on_request(h) h:setUpstreamOverrideHost(h:headers():get("x-to"), h:headers():get("x-strict") ~= nil) end'
    cluster = config.cluster("both", [a.port, b.port])
    _, px = start(mesh, [lua(code)], [config.route("/", "both")], clusters=[cluster], upstreams=[a])
    for _ in range(4):
        assert send(px, headers=[("x-to", f"127.0.0.1:{b.port}")]).status == 200
    assert len(b.requests) == 4 and a.requests == []
    assert send(px, headers=[("x-to", "127.0.0.1:1")]).status == 200
    assert send(px, headers=[("x-to", "127.0.0.1:1"), ("x-strict", "1")]).status == 503


def test_both_sources_are_refused(mesh):
    px = refused(mesh, lua("x = 2", inline_code="x = 1"))
    assert px.process.wait(20) == 1 and "Only one of `inline_code` or `default_source_code` can be set" in px.log()
