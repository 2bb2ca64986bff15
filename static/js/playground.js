// The Playground: asks the models that are shown the same, through the REST API, as a program
// would; what is sent stands below as curl and as Python.
import { History } from "./history.js";
import { Picture } from "./picture.js";

// The form is drawn for models that answer: once one that was on its way has arrived, or failed,
// the page is new.
const onTheWay = () => document.querySelectorAll("#waiting [data-poll]").length;
const atFirst = onTheWay();
if (atFirst) {
  document.addEventListener("htmx:after:swap", function look() {
    if (onTheWay() === atFirst) return;
    document.removeEventListener("htmx:after:swap", look);
    location.reload();
  });
}

const make = (tag, values = {}) => Object.assign(document.createElement(tag), values);

function start(page) {
  const form = document.getElementById("ask"), stop = document.getElementById("stop");
  const inputs = [...form.querySelectorAll("[data-input]")];
  const isText = page.kind === "text";
  const path = isText ? "/api/v1/inference/generate" : "/api/v1/predict";
  const picture = page.kind === "image" ? new Picture(page.image, () => show()) : null;
  const columns = page.models.map((model, place) => new Column(document.querySelectorAll("[data-model]")[place], model));

  // --- what is asked --------------------------------------------------------------------------
  const named = read => Object.fromEntries(inputs.map(input => [input.dataset.input, read(input)]));
  const value = input => input.type !== "number" ? input.value : input.value === "" ? null : +input.value;
  const given = fields => Object.fromEntries(Object.entries(fields).filter(([, one]) => one !== null && one !== ""));
  const READERS = {
    row: () => [named(value)],
    image: () => ({ [page.image.name]: [picture.read()] }),
    tensors: () => JSON.parse(inputs[0].value),
  };
  const body = ({ name }) => isText ? { model: name, ...given(named(value)) } : { model_name: name, inputs: READERS[page.kind]() };

  // --- the same from a program ------------------------------------------------------------------
  const shell = text => `'${text.replaceAll("'", "'\\''")}'`;
  const url = page.address + path, told = isText ? `["completions"][0]` : `["outputs"]`;
  const asCurl = json =>
    `curl ${url} \\\n  -H "Authorization: Bearer $KEY" \\\n  -H 'Content-Type: application/json' \\\n  -d ${shell(json)}`;
  const asPython = json =>
    `request = urllib.request.Request(\n    "${url}",\n    data=${JSON.stringify(json)}.encode(),\n` +
    `    headers={"Authorization": f"Bearer {os.environ['KEY']}", "Content-Type": "application/json"},\n)\n` +
    `print(json.load(urllib.request.urlopen(request))${told})`;
  function show() {
    let bodies;
    try { bodies = page.models.map(model => JSON.stringify(body(model))); } catch { return; }  // half-typed JSON; sending says what is wrong
    document.getElementById("as-curl").textContent = bodies.map(asCurl).join("\n\n");
    document.getElementById("as-python").textContent = ["import json, os, urllib.request", ...bodies.map(asPython)].join("\n\n");
  }
  form.addEventListener("input", show);
  show();

  // --- what was asked before --------------------------------------------------------------------
  const names = JSON.stringify(inputs.map(input => input.dataset.input));
  const fits = one => one.kind === page.kind && JSON.stringify(Object.keys(one.typed)) === names;
  const history = new History(document.getElementById("history"), page.user, fits, async question => {
    for (const input of inputs) input.value = question.typed[input.dataset.input];
    if (question.picture) await picture.restore(question.picture);
    show();
  });

  // --- asking -----------------------------------------------------------------------------------
  let stopping = new AbortController();
  stop.addEventListener("click", () => stopping.abort());
  form.addEventListener("submit", async event => {
    event.preventDefault();
    setBusy(true);
    stopping = new AbortController();
    history.add({ at: Date.now(), kind: page.kind, typed: named(input => input.value), picture: picture?.save() });
    await Promise.all(columns.map(column => column.ask(() => send(body(column.model)), isText ? inputs[0].value : "")));
    setBusy(false);
  });

  function setBusy(is) {
    form.querySelector("button.primary").disabled = is;
    stop.disabled = !is;
  }

  const send = asked => fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
    body: JSON.stringify({ ...asked, ...(isText ? { stream: true } : { return_metadata: true }) }),
    signal: stopping.signal,
  });
}

/** One model, and what it answers. */
class Column {
  constructor(element, model) {
    this.element = element;
    this.model = model;
    this.took = element.querySelector(".took");
    this.said = element.querySelector(".said");
  }

  async ask(send, prompt) {
    this.element.setAttribute("aria-busy", true);
    this.took.textContent = "";
    this.said.replaceChildren(make("p", { className: "muted", textContent: "asked" }));
    try {
      this.askedAt = performance.now();
      const response = await send();
      if (!response.ok) throw new Error((await response.json()).detail);
      if (response.headers.get("Content-Type").startsWith("text/event-stream")) await this.write(response.body, prompt);
      else this.draw(await response.json());
    } catch (error) {
      if (error.name === "AbortError") this.took.append(" · stopped");
      else this.refuse(error.message);
    } finally {
      this.element.setAttribute("aria-busy", false);
    }
  }

  refuse(sentence) {
    this.took.textContent = "";
    this.said.replaceChildren(make("p", { className: "notice bad", textContent: sentence }));
  }

  seconds(from = this.askedAt) { return (performance.now() - from) / 1000; }

  /** A text as it is written: events `piece`, then `done` or `error`. */
  async write(stream, prompt) {
    const text = make("pre", { tabIndex: 0, className: "written" });
    text.append(make("span", { className: "muted", textContent: prompt }));
    this.said.replaceChildren(text);
    let first = "nothing was written", firstAt;
    for await (const { event, data } of events(stream)) {
      if (event === "piece") {
        if (!firstAt) [firstAt, first] = [performance.now(), `first text after ${this.seconds().toFixed(2)} s`];
        text.append(data.text);
        this.took.textContent = first;
      } else if (event === "done") {
        const { usage, finish_reasons } = data, writing = this.seconds(firstAt);
        const speed = usage.completion_tokens > 1 && writing > 0 ? ` · ${(usage.completion_tokens / writing).toFixed(0)} tokens/s` : "";
        this.took.textContent = `${first} · ${this.seconds().toFixed(2)} s in all · ${usage.prompt_tokens} tokens in, ${usage.completion_tokens} out${speed} · ended by ${finish_reasons[0]}`;
      } else if (event === "error") {
        this.refuse(data.detail);
      }
    }
  }

  draw({ outputs, latency_ms, metadata }) {
    this.took.textContent = `${latency_ms.toFixed(1)} ms, of which ${metadata.compute_ms.toFixed(1)} ms computing`;
    const { label, probability, probabilities, ...others } = outputs;
    const parts = [];
    if (label?.length === 1 && probability) {
      parts.push(make("p", { className: "answer", textContent: label[0] }), this.shares(probabilities[0]));
    } else if (outputs.value?.length === 1) {
      parts.push(make("p", { className: "answer", textContent: outputs.value[0].toPrecision(6) }));
    }
    const rest = parts.length ? others : outputs;
    delete rest.value;
    if (Object.keys(rest).length || !parts.length) {
      parts.push(make("pre", { tabIndex: 0, textContent: JSON.stringify(parts.length ? rest : outputs, null, 1) }));
    }
    this.said.replaceChildren(...parts);
  }

  /** The likeliest classes as bars. */
  shares(values) {
    const list = make("dl", { className: "shares" });
    const order = values.map((_, place) => place).sort((a, b) => values[b] - values[a]).slice(0, 10);
    for (const place of order) {
      const name = String(this.model.classes[place] ?? `class ${place}`);
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

const data = document.getElementById("playground-data");
if (data) start(JSON.parse(data.textContent));
