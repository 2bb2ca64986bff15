// System and the page of one GPU: readings in place, charts that follow, the memory bar by
// owner. What is structure (a GPU, a process, an owner that came or went) the server draws.
import { Chart } from "./charts.js";
import { fill, localise, markStale, pause, sig3 } from "./live.js";

const page = JSON.parse(document.getElementById("machine-data").textContent);
const isLive = page.range === "5m";
const GAP_SECONDS = 3, HEIGHT = 150, TABLE_ROWS = 60;
const at = (values, path) => path.split(".").reduce((value, key) => value?.[key], values) ?? null;
const report = error => console.warn("history:", error.message);  // the next look tries again

// --- charts ------------------------------------------------------------------------------
const panels = page.panels.map(panel => {
  const card = document.querySelector(`[data-panel="${CSS.escape(panel.id)}"]`);
  const highest = Math.max(0, ...panel.limits.map(limit => limit.value), panel.top ?? 0);
  const chart = new Chart(card.querySelector(".chart"), {
    xLabel: "time", time: true, span: page.seconds, height: HEIGHT, limits: panel.limits,
    range: (_, low, high) => [0, Math.max(highest, (high ?? 0) * 1.05) || 1],
    series: panel.lines.map((line, index) => ({ label: line.label, token: line.token, dash: index, width: 1.5 })),
  });
  return { ...panel, card, chart, data: [[], ...panel.lines.map(() => [])], spread: null };
});

async function readHistory() {
  const metrics = page.panels.flatMap(panel => panel.lines.map(line => line.metric)).join();
  if (!metrics) return;
  const response = await fetch(`/api/v1/system/history?${page.query}&metrics=${encodeURIComponent(metrics)}`);
  if (!response.ok) throw new Error(`${response.status}`);
  const { series, bucket_seconds } = await response.json();
  page.bucket = bucket_seconds;
  for (const panel of panels) {
    const found = panel.lines.map(line => [series[line.metric], line.scale]);
    const scaled = (values, scale) => values.map(value => value === null ? null : value / scale);
    panel.data = [found[0][0].timestamps, ...found.map(([one, scale]) => scaled(one.mean, scale))];
    // A raw reading has no spread.
    panel.spread = isLive ? null : found.map(([one, scale]) => ({ low: scaled(one.min, scale), high: scaled(one.max, scale) }));
    draw(panel);
  }
}

function draw(panel) {
  panel.chart.draw(panel.data, panel.spread);
  if (panel.card.querySelector("details").open) drawTable(panel);
}

function append(panel, time, sample) {
  const [times] = panel.data;
  if (times.length && time <= times.at(-1)) return;
  const add = (when, values) => panel.data.forEach((column, index) => column.push(index ? values[index - 1] : when));
  if (times.length && time - times.at(-1) > GAP_SECONDS) add(times.at(-1) + 1, panel.lines.map(() => null));
  add(time, panel.lines.map(line => {
    const value = at(line.gpu ? sample.gpus.find(gpu => gpu.uuid === line.gpu) : sample, line.path);
    return value === null ? null : value / line.scale;
  }));
  const old = times.findIndex(one => one >= time - page.seconds);
  if (old > 0) panel.data.forEach(column => column.splice(0, old));
  draw(panel);
}

function drawTable({ card, lines, data, unit }) {
  const table = document.createElement("table"), [times, ...columns] = data;
  table.className = "table";
  const row = (tag, cells) => {
    const line = table.insertRow();
    for (const cell of cells) line.append(Object.assign(document.createElement(tag), { className: "num", textContent: cell }));
  };
  row("th", ["Time", ...lines.map(line => `${line.label}, ${unit}`)]);
  for (let place = times.length - 1; place >= Math.max(0, times.length - TABLE_ROWS); place--) {
    row("td", [new Date(times[place] * 1000).toLocaleString("en-GB"), ...columns.map(column => sig3(column[place]))]);
  }
  card.querySelector(".chart-table").replaceChildren(table);
}
for (const panel of panels) {
  panel.card.querySelector("details").addEventListener("toggle", event => { if (event.target.open) drawTable(panel); });
}

// --- readings ----------------------------------------------------------------------------
const shown = attribute => [...document.querySelectorAll(`[${attribute}]`)].map(one => one.getAttribute(attribute)).sort().join();
const cards = uuid => document.querySelectorAll(`[data-gpu="${CSS.escape(uuid)}"]`);
const isAll = document.querySelector("[data-host]") !== null;  // the page of one GPU shows that one alone
let readAt = performance.now();

document.addEventListener("live:sample", ({ detail }) => {
  const found = detail.gpus.map(gpu => gpu.uuid).sort().join();
  if (document.querySelector("[data-silent]") || (isAll && found !== shown("data-gpu"))) markStale();
  for (const scope of document.querySelectorAll("[data-host]")) fill(scope, detail);
  for (const core of document.querySelectorAll("[data-core]")) core.value = detail.cpu.per_core[core.dataset.core] ?? 0;
  for (const gpu of detail.gpus) {
    const active = new Set(gpu.limits.map(limit => limit.code));
    for (const card of cards(gpu.uuid)) {
      fill(card, gpu);
      for (const badge of card.querySelectorAll("[data-limit]")) badge.hidden = !active.has(badge.dataset.limit);
    }
  }
  const time = Date.parse(detail.timestamp) / 1000;
  if (isLive) for (const panel of panels) append(panel, time, detail);
  else if (page.range && performance.now() - readAt > Math.max(10, page.bucket ?? 10) * 1000) {
    readAt = performance.now();
    readHistory().catch(report);
  }
});

const owner = one => one.session ?? `pid ${one.pid}`;
document.addEventListener("live:procs", ({ detail }) => {
  const rows = new Map(detail.results.map(one => [`${one.pid} ${one.gpu_uuid ?? ""}`, one]));
  const known = document.querySelectorAll("[data-process]");
  const isSame = [...known].every(row => rows.has(row.dataset.process)) && (!isAll || known.length === rows.size);
  if (!isSame) return markStale();
  for (const row of known) fill(row, rows.get(row.dataset.process));
  for (const bar of document.querySelectorAll(".owners")) splitMemory(bar, detail.results);
});

function splitMemory(bar, processes) {
  const uuid = bar.closest("[data-gpu]").dataset.gpu, total = +bar.dataset.total;
  const mine = processes.filter(one => one.gpu_uuid === uuid);
  let start = 0;
  for (const part of bar.querySelectorAll("rect[data-owner]:not([data-owner=''])")) {
    const size = mine.filter(one => owner(one) === part.dataset.owner).reduce((sum, one) => sum + (one.gpu_memory_bytes ?? 0), 0);
    part.setAttribute("x", start.toFixed(2));
    part.setAttribute("width", (100 * size / total).toFixed(2));
    start += 100 * size / total;
  }
  bar.querySelector("rect[data-owner='']")?.setAttribute("x", start.toFixed(2));
}

// --- a range of one's own ------------------------------------------------------------------
// The server writes and reads UTC; people see the time of their own clock.
const form = document.getElementById("span"), two = number => String(number).padStart(2, "0");
form.querySelector("[data-zone]").textContent = "";
for (const input of form.querySelectorAll("input")) {
  const time = new Date(`${input.value}Z`);
  input.value = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}T${two(time.getHours())}:${two(time.getMinutes())}`;
}
form.addEventListener("formdata", ({ formData }) => {
  for (const [name, value] of [...formData]) if (value) formData.set(name, new Date(value).toISOString());
});

// --- pause, pins ---------------------------------------------------------------------------
const button = document.getElementById("pause");
button.addEventListener("click", () => {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", on);
  button.textContent = on ? "Go on" : "Pause";
  pause(on);
});

const PINS = "pinned-panels";
const stored = () => { try { return JSON.parse(localStorage.getItem(PINS)) ?? []; } catch { return []; } };
function arrange() {
  const pins = stored(), list = document.getElementById("panels");
  const rank = panel => pins.includes(panel.id) ? pins.indexOf(panel.id) : pins.length + panels.indexOf(panel);
  for (const panel of [...panels].sort((a, b) => rank(a) - rank(b))) list.append(panel.card);
  for (const { id, card } of panels) {
    const pin = card.querySelector("[data-pin]");
    pin.setAttribute("aria-pressed", pins.includes(id));
    pin.textContent = pins.includes(id) ? "Pinned" : "Pin";
  }
}
for (const { id, card } of panels) {
  const pin = card.querySelector("[data-pin]");
  pin.addEventListener("click", () => {
    const pins = stored();
    localStorage.setItem(PINS, JSON.stringify(pins.includes(id) ? pins.filter(one => one !== id) : [...pins, id]));
    arrange();
    pin.focus();  // moving the card took the focus away
  });
}
arrange();

document.addEventListener("live:resync", () => readHistory().catch(report));
document.addEventListener("htmx:after:swap", () => localise());
readHistory().catch(report);
