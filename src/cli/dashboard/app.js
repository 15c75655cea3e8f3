"use strict";
/* Names come from the mesh: they go into the page as text only. */
const at = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const pages = [["requests", "/mizzen/requests"], ["listeners", "/listeners"], ["clusters", "/clusters"], ["config", "/config_dump"],
  ["certificates", "/certs"], ["statistics", "/stats?usedonly"], ["memory", "/memory"]];
let before = null;

function add(parent, kind, text, cls) {
  const e = document.createElement(kind);
  if (text !== undefined) e.textContent = text;
  if (cls) e.className = cls;
  parent.appendChild(e);
  return e;
}
function link(parent, pod, text, path) {
  const a = add(parent, "a", text);
  a.href = "page?pod=" + encodeURIComponent(pod) + "&path=" + encodeURIComponent(path);
  a.target = "_blank";
}
function rate(now, then, seconds) {
  return then === undefined || !seconds ? 0 : Math.max(0, now < then ? now : now - then) / seconds;
}
const mb = kb => kb ? (kb / 1024).toFixed(1) + " MB" : "-";
const key = c => c.from + " " + c.to + " " + c.security;

/* Columns: who is called stands right of who calls. */
function draw(calls) {
  const svg = at("map"), names = [...new Set(calls.flatMap(c => [c.from, c.to]))], depth = {};
  svg.replaceChildren();
  for (const n of names) depth[n] = 0;
  for (let i = 0; i < names.length; i++)
    for (const c of calls)
      if (c.from !== c.to && depth[c.to] <= depth[c.from] && depth[c.from] < 6) depth[c.to] = depth[c.from] + 1;
  const rows = {}, place = {};
  for (const n of names) {
    const row = rows[depth[n]] = (rows[depth[n]] || 0) + 1;
    place[n] = [10 + depth[n] * 260, 10 + (row - 1) * 52];
  }
  svg.style.height = 20 + 52 * Math.max(0, ...Object.values(rows)) + "px";
  const make = (kind, values) => {
    const e = document.createElementNS(SVG, kind);
    for (const k in values) e.setAttribute(k, values[k]);
    svg.appendChild(e);
    return e;
  };
  for (const c of calls) {
    const [x, y] = place[c.from], [u, v] = place[c.to], cls = c.errors > 0 ? "bad" : c.security === "mutual_tls" ? "" : "plain";
    make("path", { d: `M${x + 200} ${y + 17} C${x + 240} ${y + 17} ${u - 40} ${v + 17} ${u} ${v + 17}`, class: cls, "stroke-width": 1.5 });
  }
  for (const n of names) {
    const [x, y] = place[n];
    make("rect", { x, y, width: 200, height: 34, rx: 5 });
    make("text", { x: x + 10, y: y + 22 }).textContent = n.length > 26 ? n.slice(0, 25) + "..." : n;
  }
}

function show(d) {
  const seconds = before ? (d.time_ms - before.time_ms) / 1000 : 0;
  const old = new Map(before ? before.calls.map(c => [key(c), c]) : []), olds = new Map(before ? before.pods.map(p => [p.pod, p]) : []);
  at("name").textContent = d.mesh;
  at("state").textContent = d.pods.filter(p => p.ready).length + " of " + d.pods.length + " pods are ready; all of it uses " + mb(d.memory_kb);
  draw(d.calls);
  const calls = at("calls"), pods = at("pods"), plane = at("plane");
  calls.replaceChildren();
  for (const c of d.calls) {
    const row = add(calls, "tr"), o = old.get(key(c)) || {};
    add(row, "td", c.from);
    add(row, "td", c.to);
    add(row, "td", rate(c.requests, o.requests, seconds).toFixed(1), "n");
    add(row, "td", c.errors ? rate(c.errors, o.errors, seconds).toFixed(1) + "/s (" + c.errors + ")" : "none", c.errors ? "bad" : "");
    add(row, "td", c.requests + (c.connections ? ", " + c.connections + " connections" : ""), "n");
    add(row, "td", c.security === "mutual_tls" ? "mutual TLS" : c.security === "none" ? "plain text" : c.security || "unknown", c.security === "mutual_tls" ? "good" : "bad");
  }
  pods.replaceChildren();
  for (const p of d.pods) {
    const row = add(pods, "tr"), o = olds.get(p.pod) || {};
    add(row, "td", p.pod);
    add(row, "td", p.ip);
    add(row, "td", p.ready ? "ready" : "not ready", p.ready ? "good" : "bad");
    add(row, "td", rate(p.in, o.in, seconds).toFixed(1), "n");
    add(row, "td", rate(p.out, o.out, seconds).toFixed(1), "n");
    add(row, "td", p.connections, "n");
    add(row, "td", p.proxy ? mb(p.proxy_kb) : "none", "n");
    add(row, "td", mb(p.pod_kb), "n");
    const links = add(row, "td");
    if (p.proxy) for (const [text, path] of pages) link(links, p.pod, text, path);
  }
  plane.replaceChildren();
  plane.append("mizzend, " + mb(d.plane_kb) + ": ");
  for (const [text, path] of [["who is connected", "/debug/syncz"], ["documents", "/debug/configz"], ["where they stand", "/debug/mizzen/objects"],
    ["services", "/debug/registryz"], ["what is wrong", "/debug/push_status"], ["metrics", "/metrics"]])
    link(plane, "mizzend", text, path);
  before = d;
}

async function look() {
  try {
    const r = await fetch("data.json");
    if (!r.ok) throw new Error(await r.text());
    show(await r.json());
  } catch (e) {
    at("state").textContent = "No answer: " + e.message;
  }
  setTimeout(look, 2000);
}
look();
