// One event stream for all tabs of this browser. HTTP/1.1 allows six connections to a
// server: with one stream per tab the seventh tab would not load. Runs as a SharedWorker;
// where there is none, live.js imports `Stream` and uses it directly.

const FIRST_RETRY_MS = 1000, LONGEST_RETRY_MS = 15000;

export class Stream {
  // fetch instead of EventSource: it tells why a stream was refused, and who is signed out.
  constructor(deliver) {
    this.deliver = deliver;
    this.topics = "";
    this.lastId = "";
    this.state = "connecting";
  }

  follow(topics) {
    const wanted = [...topics].sort().join(",");
    if (wanted === this.topics) return;
    this.topics = wanted;
    this.state = "connecting";
    this.restart(0);
  }

  restart(delay) {
    this.control?.abort();
    clearTimeout(this.timer);
    if (!this.topics) return this.tell("idle");
    const control = this.control = new AbortController();
    this.timer = setTimeout(() => this.run(control.signal), delay);
  }

  async run(signal) {
    const refused = await this.read(signal).catch(() => null);
    if (signal.aborted) return;
    this.wait = Math.min((this.wait ?? FIRST_RETRY_MS / 2) * 2, LONGEST_RETRY_MS);
    this.tell(refused ?? "reconnecting");
    // A page of a thing that was deleted must not take the stream from the others.
    if (refused === "missing") this.topics = this.topics.split(",").filter(t => !t.includes(":")).join(",");
    this.restart(refused ? this.wait : this.wait / 2);
  }

  async read(signal) {
    const headers = { Accept: "text/event-stream", ...(this.lastId && { "Last-Event-ID": this.lastId }) };
    const url = "/stream/?topics=" + encodeURIComponent(this.topics).replaceAll("%2C", ",").replaceAll("%3A", ":");
    const response = await fetch(url, { headers, signal, cache: "no-store" });
    if (response.redirected || response.status === 401 || response.status === 403) return "signed-out";
    if (response.status === 404 || response.status === 422) return "missing";
    if (!response.ok) return "polling";
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { done, value } = await reader.read();
      if (done) return null;
      if (this.state !== "live") {  // the server speaks once it listens: from now on nothing is missed
        this.wait = undefined;
        this.tell("live");
      }
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.take(block);
    }
  }

  take(block) {
    let type = "message", data = "";
    for (const line of block.split("\n")) {
      const at = line.indexOf(":");
      if (at <= 0) continue;  // a comment keeps the connection alive
      const value = line.slice(at + 1).replace(/^ /, "");
      if (line.startsWith("event:")) type = value;
      else if (line.startsWith("data:")) data += value;
      else if (line.startsWith("id:")) this.lastId = value;
    }
    if (data) this.deliver({ type, data: JSON.parse(data) });
  }

  tell(state) {
    this.state = state;
    this.deliver({ state });
  }
}

if (typeof SharedWorkerGlobalScope !== "undefined") {
  const ports = new Map();  // port → the topics its page listens to; none while hidden
  const stream = new Stream(message => { for (const port of ports.keys()) port.postMessage(message); });
  self.onconnect = ({ ports: [port] }) => {
    ports.set(port, []);
    port.onmessage = ({ data }) => {
      if (data.topics) ports.set(port, data.topics); else ports.delete(port);
      stream.follow(new Set([...ports.values()].flat()));
      if (data.topics?.length) port.postMessage({ state: stream.state });
    };
  };
}
