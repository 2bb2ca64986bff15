// The page of one session: curves, facts and log follow the stream. The server has drawn
// everything once; history comes by JSON, then only new points arrive.
import { Chart, Cursor, align, nearest, smooth } from "./charts.js";
import { duration, fill, localise, markStale, sig3 } from "./live.js";

const page = JSON.parse(document.getElementById("session-data").textContent);
const api = `/api/v1/sessions/${encodeURIComponent(page.id)}`;
const root = document.getElementById("session");
const KEYS = ["loss", "learning_rate"];
const MAX_POINTS = 2000, MAX_LOG_LINES = 2000, HARDWARE_MS = 10_000;
const READINGS = { cpu_percent: "CPU", memory_percent: "memory", gpu_busy_percent: "GPU busy", gpu_memory_percent: "GPU memory" };

const read = async path => {
  const response = await fetch(api + path, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
};

// --- curves ------------------------------------------------------------------------------
const make = (id, options) => {
  const element = document.getElementById(id);
  return element && new Chart(element, options);
};
const marks = page.not_finite ? [{ x: page.not_finite.step, label: `no number at step ${page.not_finite.step}` }] : [];
const charts = {
  loss: make("chart-loss", { xLabel: "step", marks, series: [{ label: "train", token: "--series-1", dash: 0, width: 1, alpha: 0.4 }, { label: "smoothed", token: "--series-1", dash: 0 }, { label: "validation", token: "--series-2", dash: 1, points: true }] }),
  rate: make("chart-rate", { xLabel: "step", series: [{ label: "learning rate", token: "--series-3", dash: 0 }] }),
  accuracy: make("chart-accuracy", { xLabel: "epoch", range: (_, low, high) => [Math.max(0, Math.min(low, high - 0.05) - 0.02), Math.min(1, high + 0.02)], series: [{ label: "train", token: "--series-1", points: true }, { label: "validation", token: "--series-2", dash: 1, points: true }] }),
};
const dense = Object.fromEntries(KEYS.map(key => [key, { x: [], y: [], times: [] }]));
let epochs = page.epochs, drawing = false, hardware;

const stepsOfAnEpoch = () => {
  const lastStep = Math.max(page.current_step ?? 0, dense.loss.x.at(-1) ?? 0);
  return page.total_steps ? page.total_steps / page.total_epochs : lastStep / Math.max(1, epochs.length);
};

function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    // Validation is measured once an epoch: it stands at the step where the epoch ended.
    const perEpoch = stepsOfAnEpoch();
    const validated = epochs.filter(row => row.val_loss !== null);
    const validation = { x: validated.map(row => Math.round(row.epoch * perEpoch)), y: validated.map(row => row.val_loss) };
    charts.loss.draw(align([dense.loss, smooth(dense.loss), validation]));
    charts.rate.draw(align([dense.learning_rate]));
    const column = key => ({ x: epochs.map(row => row.epoch), y: epochs.map(row => row[key]) });
    charts.accuracy?.draw(align([column("accuracy"), column("val_accuracy")]));
  });
}

async function readHistory() {
  const { series } = await read(`/series?keys=${KEYS.join(",")}&max_points=${MAX_POINTS}`);
  for (const key of KEYS) {
    if (series[key]) dense[key] = { x: [...series[key].steps], y: [...series[key].values], times: [...series[key].times] };
  }
  for (const { x } of marks) {
    if (dense.loss.x.at(-1) < x) { dense.loss.x.push(x); dense.loss.y.push(null); dense.loss.times.push(dense.loss.times.at(-1)); }
  }
  redraw();
}

document.addEventListener("live:metric", ({ detail }) => {
  if (detail.session !== page.id) return;
  for (const [key, points] of Object.entries(detail.series)) {
    const into = dense[key];
    if (!into) continue;
    for (const [step, value] of points) {
      // A resumed attempt repeats steps: what was drawn beyond them did not survive.
      while (into.x.length && into.x.at(-1) >= step) { into.x.pop(); into.y.pop(); into.times.pop(); }
      into.x.push(step);
      into.y.push(value);
      into.times.push(Date.now() / 1000);  // it comes within a second; the history has its own time
    }
  }
  const steps = dense.loss.x.at(-1);
  if (steps) fill(root, { current_step: steps, loss: dense.loss.y.at(-1), learning_rate: dense.learning_rate.y.at(-1) });
  // Very long runs: ask for the thinned history again instead of growing for ever.
  if (dense.loss.x.length > 3 * MAX_POINTS) readHistory().catch(report);
  redraw();
});

document.addEventListener("live:epoch", ({ detail }) => {
  if (detail.session !== page.id) return;
  epochs = [...epochs.filter(row => row.epoch !== detail.epoch), detail].sort((a, b) => a.epoch - b.epoch);
  redraw();
  markStale();
});

// --- hardware, and one cursor for everything ------------------------------------------------
async function readHardware() {
  const { timestamps, series, reason } = await read("/hardware");
  const waiting = document.querySelector("#chart-hardware .waiting");
  if (!timestamps.length) { if (waiting) waiting.textContent = reason; return; }
  const names = Object.keys(READINGS).filter(name => series[name]);
  if (!hardware) {
    hardware = make("chart-hardware", { xLabel: "time", time: true, range: () => [0, 100],
      series: names.map((name, index) => ({ label: READINGS[name], token: `--series-${index + 1}` })) });
    cursor.addChart(hardware, time => time, time => time);
  }
  hardware.draw([timestamps, ...names.map(name => series[name])]);
}

const cursor = new Cursor();
const stepTime = step => dense.loss.times[nearest(dense.loss.x, step)] ?? null;
const timeStep = time => dense.loss.x[nearest(dense.loss.times, time)] ?? null;
for (const chart of [charts.loss, charts.rate]) cursor.addChart(chart, stepTime, timeStep);
if (charts.accuracy) {
  const epochAt = time => Math.min(epochs.length, Math.max(1, Math.round(timeStep(time) / stepsOfAnEpoch())));
  cursor.addChart(charts.accuracy, epoch => stepTime(epoch * stepsOfAnEpoch()), epochAt);
}

// --- facts ---------------------------------------------------------------------------------
let isFirstWord = true;
document.addEventListener("live:session", ({ detail }) => {
  if (detail.id !== page.id) return;
  // What happened after the server had drawn this and before the stream was open is in the history.
  if (isFirstWord && (detail.state !== page.state || detail.current_step !== page.current_step)) catchUp();
  isFirstWord = false;
  Object.assign(page, { progress: detail.progress, state: detail.state, started_at: detail.started_at, total_steps: detail.total_steps });
  tick();
});

function tick() {
  const left = document.getElementById("left");
  if (!left || page.state !== "running" || !page.started_at || !(page.progress > 0)) return;
  const spent = (Date.now() - Date.parse(page.started_at)) / 1000;
  const seconds = spent * (100 - page.progress) / page.progress;
  const ends = new Date(Date.now() + seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  left.textContent = `${duration(seconds)} (about ${ends})`;
}
setInterval(tick, 1000);
document.addEventListener("htmx:after:swap", tick);

// --- log -----------------------------------------------------------------------------------
const log = document.getElementById("log");
const lines = log.querySelector("ol");
const follow = document.getElementById("follow");
const toEnd = () => { if (follow.checked) log.scrollTop = log.scrollHeight; };

function addLine({ id, timestamp, level, message }) {
  if (id <= page.last_log) return;  // the history had it already
  page.last_log = id;
  const item = document.createElement("li"), time = document.createElement("time"), text = document.createElement("span");
  item.className = level;
  time.dateTime = timestamp;
  time.dataset.style = "clock";
  if (level === "warning" || level === "error") {
    const word = document.createElement("b");
    word.textContent = level.toUpperCase() + " ";
    text.append(word);
  }
  text.append(message);
  item.append(time, text);
  localise(item);
  lines.append(item);
  while (lines.children.length > MAX_LOG_LINES) lines.firstElementChild.remove();
}

function addLines(rows) {
  document.getElementById("log-empty")?.remove();
  rows.forEach(addLine);
  toEnd();
}
async function readLog() {
  const { results } = await read(`/logs?after=${page.last_log}&limit=1000`);
  if (results.length) addLines(results);
}
document.addEventListener("live:log", ({ detail }) => {
  if (detail.id === page.id) addLines(detail.lines);
});
// Reading back switches following off; the end of the log switches it on again.
log.addEventListener("scroll", () => {
  if (lines.querySelector(".at")) return;  // the cursor scrolls, not the reader
  follow.checked = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
});
follow.addEventListener("change", toEnd);
cursor.addLog(log, lines, toEnd);

// --- start, and catching up after a gap ------------------------------------------------------
const report = error => console.warn("history:", error.message);  // the next resync tries again
async function catchUp() {
  await Promise.all([readHistory(), readLog(), readHardware()]).catch(report);
  const { results } = await read("/metrics").catch(() => ({ results: epochs }));
  epochs = results;
  redraw();
}
document.addEventListener("live:resync", catchUp);
redraw();
readHistory().catch(report);
readHardware().catch(report);
setInterval(() => { if (page.state === "running" && !document.hidden) readHardware().catch(report); }, HARDWARE_MS);
toEnd();
