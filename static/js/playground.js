// The Playground: asks the model that is shown through the REST API, as a program would; what is
// sent stands beside it as curl and as Python.
import { markStale } from "./live.js";

// --- models on their way: the server draws the list ----------------------------------------
const MOVING_MS = 1000, RESTING_MS = 10_000;
const memory = () => document.getElementById("memory");
let drawnAt = performance.now();
setInterval(() => {
  const isMoving = memory().dataset.moving === "yes";
  if (document.hidden || performance.now() - drawnAt < (isMoving ? MOVING_MS : RESTING_MS)) return;
  drawnAt = performance.now();
  markStale();
  if (isMoving && !document.getElementById("ask")) awaitReady();
}, MOVING_MS);

// The form is drawn for a model that answers: once the one asked for does, the page is new.
const awaitReady = () => addEventListener("htmx:after:swap", () => {
  const asked = new URLSearchParams(location.search).get("model");
  const links = [...memory().querySelectorAll("a[href^='?model=']")];
  if (links.some(link => new URLSearchParams(link.getAttribute("href")).get("model") === asked)) location.reload();
}, { once: true });

const form = document.getElementById("ask");

function start(page) {
  const answer = document.getElementById("answer"), took = document.getElementById("took");
  const picture = page.kind === "image" ? new Picture(page.image, show) : null;
  const make = (tag, values = {}) => Object.assign(document.createElement(tag), values);

  const value = input => input.type !== "number" ? input.value : input.value === "" ? null : +input.value;
  const field = id => value(document.getElementById(id));
  const known = fields => Object.fromEntries(Object.entries(fields).filter(([, one]) => one !== null && one !== ""));
  const READERS = {
    row: () => [Object.fromEntries([...form.querySelectorAll("[data-input]")].map(input => [input.dataset.input, value(input)]))],
    image: () => ({ [page.image.name]: [picture.read()] }),
    tensors: () => JSON.parse(document.getElementById("f-inputs").value),
  };
  const isText = page.kind === "text";
  const path = isText ? "/api/v1/inference/generate" : "/api/v1/predict";
  const body = () => isText
    ? known({ model: page.model, prompt: field("f-prompt"), max_length: field("f-max"), temperature: field("f-temperature"), top_p: field("f-top-p"), seed: field("f-seed"), stop: field("f-stop") })
    : { model_name: page.model, inputs: READERS[page.kind]() };

  // --- the same from a program --------------------------------------------------------------
  const shell = text => `'${text.replaceAll("'", "'\\''")}'`;
  function show() {
    let json;
    try { json = JSON.stringify(body()); } catch { return; }  // half-typed JSON; sending says what is wrong
    const url = page.address + path, told = isText ? `["completions"][0]` : `["outputs"]`;
    document.getElementById("as-curl").textContent =
      `curl ${url} \\\n  -H "Authorization: Bearer $KEY" \\\n  -H 'Content-Type: application/json' \\\n  -d ${shell(json)}`;
    document.getElementById("as-python").textContent =
      `import json, os, urllib.request\n\nrequest = urllib.request.Request(\n    "${url}",\n    data=${JSON.stringify(json)}.encode(),\n` +
      `    headers={"Authorization": f"Bearer {os.environ['KEY']}", "Content-Type": "application/json"},\n)\n` +
      `print(json.load(urllib.request.urlopen(request))${told})`;
  }
  form.addEventListener("input", show);
  show();

  // --- asking ---------------------------------------------------------------------------------
  let stopping = new AbortController();
  document.getElementById("stop")?.addEventListener("click", () => stopping.abort());
  form.addEventListener("submit", async event => {
    event.preventDefault();
    setBusy(true);
    stopping = new AbortController();
    try {
      const response = await ask(isText ? { ...body(), stream: true } : { ...body(), return_metadata: true });
      if (isText) await write(response);
      else draw(await response.json());
    } catch (error) {
      if (error.name === "AbortError") took.textContent += " · stopped";
      else refuse(error.message);
    } finally {
      setBusy(false);
    }
  });

  function setBusy(is) {
    form.querySelector("button.primary").disabled = is;
    if (isText) document.getElementById("stop").disabled = !is;
  }

  function refuse(sentence) {
    took.textContent = "";
    answer.replaceChildren(make("p", { className: "notice bad", textContent: sentence }));
  }

  async function ask(sent) {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
      body: JSON.stringify(sent),
      signal: stopping.signal,
    });
    if (!response.ok) throw new Error((await response.json()).detail);
    return response;
  }

  /** A text as it is written: events `piece`, then `done` or `error`. */
  async function write(response) {
    const started = performance.now(), since = at => `${((at - started) / 1000).toFixed(2)} s`;
    const written = make("span");
    const text = make("pre", { tabIndex: 0, className: "written" });
    text.append(make("span", { className: "muted", textContent: field("f-prompt") }), written);
    answer.replaceChildren(text);
    took.textContent = "";
    let firstAt;
    for await (const { event, data } of events(response.body)) {
      if (event === "piece") {
        firstAt ??= performance.now();
        written.append(data.text);
        took.textContent = `first text after ${since(firstAt)}`;
      } else if (event === "done") {
        const { usage, finish_reasons, device } = data, seconds = (performance.now() - firstAt) / 1000;
        const speed = usage.completion_tokens > 1 && seconds > 0 ? ` · ${(usage.completion_tokens / seconds).toFixed(0)} tokens/s` : "";
        took.textContent = `${firstAt ? `first text after ${since(firstAt)}` : "nothing was written"} · ${usage.prompt_tokens} tokens in, ${usage.completion_tokens} out${speed} · ended by ${finish_reasons[0]} · ${device}`;
      } else if (event === "error") {
        refuse(data.detail);
      }
    }
  }

  function draw({ outputs, latency_ms, metadata }) {
    took.textContent = `${latency_ms.toFixed(1)} ms, of which ${metadata.compute_ms.toFixed(1)} ms computing · ${metadata.device}`;
    const { label, probability, probabilities, ...others } = outputs;
    const parts = [];
    if (label?.length === 1 && probability) {
      parts.push(make("p", { className: "answer", textContent: label[0] }), shares(label[0], probabilities[0]));
    } else if (outputs.value?.length === 1) {
      parts.push(make("p", { className: "answer", textContent: outputs.value[0].toPrecision(6) }));
    }
    const rest = parts.length ? others : outputs;
    delete rest.value;
    if (Object.keys(rest).length || !parts.length) {
      parts.push(make("pre", { tabIndex: 0, textContent: JSON.stringify(parts.length ? rest : outputs, null, 1) }));
    }
    answer.replaceChildren(...parts);
  }

  /** The likeliest classes as bars; the names are known where the dataset still is. */
  function shares(label, values) {
    const named = page.classes.length === values.length && String(page.classes[values.indexOf(Math.max(...values))]) === String(label);
    const list = make("dl", { className: "shares" });
    const order = values.map((_, place) => place).sort((a, b) => values[b] - values[a]).slice(0, 10);
    for (const place of order) {
      const name = named ? String(page.classes[place]) : `class ${place}`;
      const percent = `${(100 * values[place]).toFixed(1)} %`;
      const meter = make("meter", { min: 0, max: 1, value: values[place], ariaLabel: name });
      list.append(make("dt", { textContent: name }), make("dd"));
      list.lastChild.append(meter, make("span", { className: "num", textContent: percent }));
    }
    return list;
  }
}

/** The events of a stream, https://html.spec.whatwg.org/multipage/server-sent-events.html */
async function* events(stream) {
  let waiting = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (waiting + chunk).split("\n\n");
    waiting = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n").map(line => line.match(/^(event|data): ?(.*)$/)).filter(Boolean);
      const named = Object.fromEntries(lines.map(([, name, rest]) => [name, rest]));
      if (named.data) yield { event: named.event, data: JSON.parse(named.data) };
    }
  }
}

/** A canvas of the size that the model takes: drawn on, or filled from a file or a sample. */
class Picture {
  constructor(spec, changed) {
    this.spec = spec;
    this.changed = changed;
    this.canvas = document.getElementById("canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.blacken();
    document.getElementById("clear").addEventListener("click", () => { this.blacken(); this.changed(); });
    document.getElementById("picture").addEventListener("change", event => this.load(event.target.files[0]));
    for (const button of document.querySelectorAll("#samples button")) {
      button.addEventListener("click", () => this.fill(button.firstElementChild));
    }
    const sample = document.querySelector("#samples img");
    if (sample) sample.decode().then(() => this.fill(sample));
    this.canvas.addEventListener("pointerdown", event => { this.canvas.setPointerCapture(event.pointerId); this.paint(event); });
    this.canvas.addEventListener("pointermove", event => { if (event.buttons) this.paint(event); });
  }

  blacken() {
    this.context.fillStyle = "black";
    this.context.fillRect(0, 0, this.spec.width, this.spec.height);
  }

  fill(image) {
    this.context.drawImage(image, 0, 0, this.spec.width, this.spec.height);
    this.changed();
  }

  async load(file) {
    if (!file) return;
    this.fill(await createImageBitmap(file));
  }

  paint({ offsetX, offsetY }) {
    const { clientWidth, clientHeight } = this.canvas, { width, height } = this.spec;
    const x = offsetX * width / clientWidth, y = offsetY * height / clientHeight;
    this.context.fillStyle = "rgba(255, 255, 255, 0.7)";
    this.context.beginPath();
    this.context.arc(x, y, Math.max(0.6, width / 18), 0, 2 * Math.PI);
    this.context.fill();
    this.changed();
  }

  /** Rows of pixels, as the dataset had them: numbers from `low` to `high`. */
  read() {
    const { width, height, channels, has_channels, low, high } = this.spec;
    const { data } = this.context.getImageData(0, 0, width, height);
    const scale = value => low + (high - low) * value / 255;
    const pixel = at => {
      const [red, green, blue, alpha] = data.subarray(at, at + 4);
      if (channels === 1) return [scale((red + green + blue) / 3)];
      return [red, green, blue, alpha].slice(0, channels).map(scale);
    };
    return Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) => {
      const values = pixel(4 * (y * width + x)).map(value => +value.toFixed(4));
      return has_channels ? values : values[0];
    }));
  }
}

if (form) start(JSON.parse(document.getElementById("playground-data").textContent));
