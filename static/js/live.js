// On every page: the live dot, times in the reader's zone, theme, menu, copy buttons, dialogs.
// Events of the stream become DOM events `live:<type>`; parts that only the server can draw
// (`hx-trigger="stale from:body"`) are fetched again when something they show has changed, or, where
// no event tells, after so many milliseconds as `data-poll` says.

const root = document.documentElement;
const topics = (document.body.dataset.topics ?? "").split(" ").filter(Boolean);
const dot = document.getElementById("live");
const WORDS = { connecting: "connecting", live: "live", reconnecting: "reconnecting", polling: "polling",
  missing: "reconnecting", "signed-out": "signed out", idle: "not live", off: "not live" };
const POLL_MS = 3000, SAMPLE_LATE_MS = 5000;

// --- the stream ------------------------------------------------------------------------
let paused = false;
let state = "off", liveSince = 0, lastSample = performance.now(), lastStale = 0, staleTimer;

export const emit = (type, detail) => document.dispatchEvent(new CustomEvent("live:" + type, { detail }));

/** Hold the page as it is, for reading; afterwards everything catches up. */
export function pause(on) {
  paused = on;
  show(state === "missing" ? "reconnecting" : state);
  if (!on) { emit("resync"); markStale(); }
}

export function markStale() {
  if (paused) return;
  const wait = Math.max(0, lastStale + 1000 - performance.now());
  clearTimeout(staleTimer);
  staleTimer = setTimeout(() => {
    lastStale = performance.now();
    document.body.dispatchEvent(new CustomEvent("stale"));  // see #refresh in base.html
  }, wait);
}

function show(word, text = WORDS[word]) {
  if (paused) [word, text] = ["paused", "paused"];
  if (dot.textContent === text) return;  // it is a status: speak only when something changed
  dot.dataset.state = word;
  dot.textContent = text;
}

function receive(message) {
  if (message.state) return changeState(message.state);
  if (message.type === "sample") {
    lastSample = performance.now();
    if (state === "live") show("live");
  }
  // The hub forgot what came in between: the history has it.
  if (message.type === "notice" && message.data.code === "resync") { emit("resync"); markStale(); }
  if (message.type === "alert") markStale();  // the count in the navigation, and whoever lists them
  if (!paused) emit(message.type, message.data);
}

function changeState(next) {
  const recovered = next === "live" && state !== "live";
  state = next;
  show(next === "missing" ? "reconnecting" : next);
  if (recovered) lastSample = liveSince = performance.now();
}

function open() {
  if (typeof SharedWorker === "undefined") {
    const ready = import("./stream-worker.js").then(module => new module.Stream(receive));
    return wanted => ready.then(stream => stream.follow(new Set(wanted)));
  }
  const worker = new SharedWorker(new URL("stream-worker.js", import.meta.url), { type: "module", name: "mlserver" });
  worker.port.onmessage = ({ data }) => receive(data);
  return wanted => worker.port.postMessage({ topics: wanted });
}

if (topics.length) {
  const follow = open();
  // A hidden tab asks for nothing; when it is seen again it catches up (`resync`).
  const listen = () => { if (!document.hidden) { show("connecting"); follow(topics); } else { state = "idle"; follow([]); } };
  document.addEventListener("visibilitychange", listen);
  addEventListener("pagehide", () => follow([]));
  addEventListener("pageshow", event => { if (event.persisted) listen(); });
  listen();
  setInterval(watch, 1000);
}

let polledAt = performance.now();
function watch() {
  if (document.hidden) return;
  const silent = performance.now() - lastSample;
  if (state === "live" && topics.includes("system") && silent > SAMPLE_LATE_MS) {
    show("late", `no data for ${Math.floor(silent / 5000) * 5} s`);
  }
  const since = performance.now() - polledAt, isCut = state !== "live" && since > POLL_MS;
  if (!isCut && !(since > document.querySelector("[data-poll]")?.dataset.poll)) return;
  polledAt = performance.now();
  if (isCut) emit("resync");
  markStale();
}

// Changes of sessions: numbers in place, everything else from the server.
const known = new Map([...document.querySelectorAll("[data-session][data-state]")]
  .map(element => [element.dataset.session, element.dataset.state]));
document.addEventListener("live:session", ({ detail }) => {
  // A fresh stream first says how everything stands; what this page does not show is no news then.
  const isFirstWord = !known.has(detail.id) && performance.now() - liveSince < 1000;
  if (known.get(detail.id) !== detail.state) {
    known.set(detail.id, detail.state);
    if (!isFirstWord) markStale();
  }
  for (const element of document.querySelectorAll(`[data-session="${CSS.escape(detail.id)}"]`)) fill(element, detail);
});

// --- numbers ---------------------------------------------------------------------------
const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** Three significant digits, the same as the server's filter `sig3`. */
export function sig3(value) {
  if (value === null || value === undefined || !Number.isFinite(+value)) return "–";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size < 0.001) return (+value).toExponential(2).replace("e-", "e−");
  return size >= 1000 ? grouped.format(value) : (+value).toPrecision(3);
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const s = Math.round(seconds), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  if (d) return `${d} d ${h % 24} h`;
  if (h) return `${h} h ${m % 60} min`;
  return m ? `${m} min ${s % 60} s` : `${s} s`;
}

const bytes = unit => value => {
  const size = value / unit;
  return size < 10 ? size.toFixed(2) : size < 100 ? size.toFixed(1) : size.toFixed(0);
};
export const FORMATS = {
  sig3, percent: v => v.toFixed(v < 99.95 ? 1 : 0), gib: bytes(2 ** 30), mb: v => (v / 1e6).toFixed(v < 1e7 ? 2 : 1),
  integer: v => grouped.format(v), whole: v => v.toFixed(0), share: v => (v * 100).toFixed(1), text: v => v,
  two: v => v.toFixed(2), duration,
};

/** Put the values of one event into the elements that name them: data-field, data-format. */
export function fill(scope, values) {
  for (const element of scope.querySelectorAll("[data-field]")) {
    const value = element.dataset.field.split(".").reduce((at, key) => at?.[key], values);
    if (value === undefined) continue;
    if (element instanceof HTMLMeterElement || element instanceof HTMLProgressElement) {
      if (value !== null) element.value = value;
    } else {
      element.textContent = value === null ? "–" : FORMATS[element.dataset.format ?? "text"](value);
    }
  }
}

// --- times in the reader's zone; the UTC time is the tooltip ----------------------------
const STYLES = {
  clock: { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
  short: { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  full: { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" },
};
export function localise(scope = document) {
  for (const time of scope.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(+at)) continue;
    time.title ||= at.toISOString().replace("T", " ").slice(0, 19) + " UTC";
    time.textContent = new Intl.DateTimeFormat("en-GB", STYLES[time.dataset.style] ?? STYLES.full).format(at);
  }
}
localise();
document.addEventListener("htmx:after:swap", () => localise());

// --- small things ------------------------------------------------------------------------
const theme = document.getElementById("theme");
if (theme) {
  theme.value = root.dataset.theme;
  theme.addEventListener("change", () => {
    root.dataset.theme = theme.value;
    localStorage.setItem("theme", theme.value);
    emit("theme");
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => emit("theme"));
}

const menu = document.getElementById("menu");
menu?.addEventListener("click", () => {
  const open = document.getElementById("side").classList.toggle("open");
  menu.setAttribute("aria-expanded", open);
});

document.addEventListener("click", async event => {
  const copy = event.target.closest("[data-copy]");
  if (copy) return copyText(copy);
  const opener = event.target.closest("[data-dialog]");
  if (opener) return document.getElementById(opener.dataset.dialog).showModal();
  event.target.closest("[data-close]")?.closest("dialog").close();
});

async function copyText(button) {
  const source = button.parentElement.querySelector("pre");
  const range = document.createRange();
  range.selectNodeContents(source);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  // Over plain http the clipboard interface does not exist; the old command still works.
  const done = navigator.clipboard ? await navigator.clipboard.writeText(source.textContent).then(() => true, () => false)
    : document.execCommand("copy");
  button.textContent = done ? "Copied" : "Selected";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}
