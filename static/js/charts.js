// Curves over steps, epochs or time with uPlot. A chart knows how to draw columns; where the
// numbers come from is the page's affair.
import { sig3 } from "./live.js";

const HEIGHT = 230;
const DASHES = [[], [6, 4], [2, 3], [8, 3, 2, 3]];

const colour = name => {
  // Canvas does not know light-dark(): let the browser resolve the token.
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
};

// One notation for a whole axis: 2e-4, 4e-4 … 1e-3, never mixed with 0.001.
const tickLabel = (tick, _, ticks) => {
  if (tick === 0) return "0";
  return Math.max(...ticks.map(Math.abs)) < 0.01 ? tick.toExponential().replace("-", "−") : String(+tick.toPrecision(3));
};

const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const moment = (seconds, style) => new Intl.DateTimeFormat("en-GB", style).format(seconds * 1000);
const timeLabels = (_, ticks, __, ___, step) => ticks.map(tick => moment(tick,
  step < 60 ? { ...CLOCK, second: "2-digit" } : step < 86400 ? CLOCK : { day: "numeric", month: "short" }));

/** A running mean over about a twentieth of the curve: the trend under the noise, close behind it. */
export function smooth({ x, y }) {
  const weight = 1 - 1 / Math.min(20, Math.max(1, y.length / 20));
  let mean = 0, trust = 0;
  return { x, y: y.map(value => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    trust = weight * trust + (1 - weight);  // without it the first values would lean to zero
    return mean / trust;
  }) };
}

/** Join several {x, y} series on one axis: uPlot wants one x column; gaps stay undefined. */
export function align(series) {
  const xs = [...new Set(series.flatMap(one => one.x))].sort((a, b) => a - b);
  const at = new Map(xs.map((x, index) => [x, index]));
  return [xs, ...series.map(one => {
    const column = new Array(xs.length).fill(undefined);  // undefined: not measured here; null: a real gap
    one.x.forEach((x, index) => { column[at.get(x)] = one.y[index]; });
    return column;
  })];
}

export class Chart {
  /** series: [{label, token, dash?, points?}]; one chart per element with class "chart".
   *  time: x is Unix seconds, nulls stay gaps, and the axis is `span` seconds long;
   *  limits: [{value, label}], dashed lines; marks: [{x, label}], a line across at an event. */
  constructor(element, { xLabel, series, range, time = false, span = 0, height = HEIGHT, limits = [], marks = [] }) {
    Object.assign(this, { element, xLabel, series, range, time, span, height, limits, marks, data: null, spread: null });
    new ResizeObserver(() => this.plot?.setSize({ width: element.clientWidth, height })).observe(element);
    document.addEventListener("live:theme", () => this.rebuild());
  }

  /** Call this.moved(x) where the reader points, by mouse or arrow keys; null: no longer. */
  listen() {
    const { element } = this;
    element.tabIndex = 0;
    element.setAttribute("role", "group");
    element.setAttribute("aria-roledescription", "chart; arrow keys move the cursor");
    element.addEventListener("mousemove", () => this.moved(this.cursorAt()));
    element.addEventListener("mouseleave", () => this.moved(null));
    element.addEventListener("blur", () => this.moved(null));
    element.addEventListener("keydown", event => {
      const last = (this.data?.[0].length ?? 0) - 1;
      const at = this.plot?.cursor.idx ?? last;
      const stride = event.shiftKey ? 10 : 1;
      const next = { ArrowLeft: at - stride, ArrowRight: at + stride, Home: 0, End: last }[event.key];
      if (next === undefined || last < 0) return;
      event.preventDefault();
      this.pointAt(this.data[0][Math.min(last, Math.max(0, next))]);
      this.moved(this.cursorAt());
    });
  }

  cursorAt() {
    const at = this.plot?.cursor.idx;
    return at === null || at === undefined ? null : this.data[0][at];
  }

  /** Put the cursor at x; null takes it away. */
  pointAt(x) {
    const place = x === null ? { left: -10, top: -10 } : { left: this.plot?.valToPos(x, "x"), top: 0 };
    this.plot?.setCursor(place, true, false);  // followers are told by who moved, not by uPlot
  }

  /** spread: for each series {low, high}, drawn as a band behind it. */
  draw(data, spread = null) {
    this.data = data;
    this.spread = spread;
    if (!data[0].length) return;
    if (this.plot) this.plot.setData(data); else this.rebuild();
  }

  rebuild() {
    if (!this.data?.[0].length) return;
    this.plot?.destroy();
    this.element.querySelector(".waiting")?.remove();
    this.plot = new uPlot(this.options(), this.data, this.element);
    this.plot.root.querySelector(".u-legend").setAttribute("aria-hidden", "true");  // the table below says it in words
  }

  options() {
    const line = colour("--line"), muted = colour("--muted");
    const axis = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    return {
      width: this.element.clientWidth, height: this.height,
      padding: [8, 10, 0, 0],
      hooks: { drawAxes: [plot => this.drawBehind(plot, muted)] },
      scales: { x: { time: this.time, ...(this.span && { range: (_, low, high) => this.xRange(low, high) }) }, y: this.range ? { range: this.range } : {} },
      cursor: { sync: { key: this.xLabel }, y: false, points: { size: 6 } },
      axes: [
        { ...axis, size: 26, values: this.time ? timeLabels : (_, ticks) => ticks.map(tick => Number.isInteger(tick) ? tick.toLocaleString("en") : "") },
        { ...axis, values: (_, ticks) => ticks.map(tickLabel), size: 52 },
      ],
      series: [
        { label: this.xLabel, value: (_, value) => this.xWords(value ?? this.data[0].at(-1)) },
        ...this.series.map((one, index) => ({
          label: one.label, stroke: colour(one.token), alpha: one.alpha ?? 1, width: one.width ?? 1.75, dash: DASHES[one.dash ?? index], spanGaps: !this.time,
          points: { show: one.points ?? false, size: 5, fill: colour(one.token) },
          // Without a cursor the legend says the newest value instead of nothing.
          value: (_, value) => value === null || value === undefined ? this.last(index + 1) : sig3(value),
        })),
      ],
    };
  }

  /** The whole span, also where there are readings of a part; what was zoomed to stays. */
  xRange(low, high) {
    const [times] = this.data;
    return low === times[0] && high === times.at(-1) ? [high - this.span, high] : [low, high];
  }

  xWords(value) {
    return this.time ? moment(value, { ...CLOCK, second: "2-digit" }) : value.toLocaleString("en");
  }

  last(column) {
    return sig3(this.data[column].findLast(item => item !== undefined && item !== null));
  }

  drawBehind({ ctx, bbox, valToPos }, muted) {
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    this.spread?.forEach(({ low, high }, index) => {
      ctx.fillStyle = colour(this.series[index].token);
      ctx.globalAlpha = 0.16;
      this.data[0].forEach((x, at, xs) => {
        if (!at || [low[at], low[at - 1], high[at], high[at - 1]].some(one => one === null || one === undefined)) return;
        ctx.beginPath();
        for (const [place, value] of [[at - 1, high[at - 1]], [at, high[at]], [at, low[at]], [at - 1, low[at - 1]]]) {
          ctx.lineTo(valToPos(xs[place], "x", true), valToPos(value, "y", true));
        }
        ctx.fill();
      });
    });
    ctx.globalAlpha = 1;
    ctx.strokeStyle = muted;
    ctx.setLineDash([4, 4]);
    for (const { value } of this.limits) {
      const y = valToPos(value, "y", true);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    ctx.setLineDash([]);
    ctx.strokeStyle = ctx.fillStyle = colour("--crit");
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    for (const { x, label } of this.marks) {
      const left = valToPos(x, "x", true);
      ctx.beginPath();
      ctx.moveTo(left, bbox.top);
      ctx.lineTo(left, bbox.top + bbox.height);
      ctx.stroke();
      const isRight = left > bbox.left + bbox.width / 2;
      ctx.textAlign = isRight ? "right" : "left";
      ctx.fillText(label, left + (isRight ? -5 : 5) * devicePixelRatio, bbox.top + 12 * devicePixelRatio);
    }
    ctx.restore();
  }
}

/** Index of the value nearest to `wanted` in an ascending list; -1 where it is empty. */
export function nearest(values, wanted) {
  let low = 0, high = values.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle + 1; else high = middle;
  }
  return low && wanted - values[low - 1] < values[low] - wanted ? low - 1 : high < 0 ? -1 : low;
}

/** One cursor in time for several charts and a log: where the reader points in one of them, the
 *  others show the same moment. Times are Unix seconds. */
export class Cursor {
  constructor() { this.followers = []; }

  /** follow(time or null) shows a moment; answers the function that tells where it points. */
  add(follow) {
    this.followers.push(follow);
    return time => this.followers.filter(other => other !== follow).forEach(other => other(time));
  }

  /** A chart whose x becomes a time by `timeOf`, and back by `xOf`; either may answer null. */
  addChart(chart, timeOf, xOf) {
    const tell = this.add(time => chart.pointAt(time === null ? null : xOf(time)));
    chart.moved = x => tell(x === null ? null : timeOf(x));
    chart.listen();
  }

  /** A scrolling list whose items hold a <time>; the one at that moment is marked and in view. */
  addLog(scroller, list, settle) {
    const times = () => [...list.children].map(item => Date.parse(item.querySelector("time").dateTime) / 1000);
    const tell = this.add(time => {
      list.querySelector(".at")?.classList.remove("at");
      if (time === null) return settle();
      const item = list.children[nearest(times(), time)];
      if (!item) return;
      item.classList.add("at");
      scroller.scrollTop = item.offsetTop - scroller.offsetTop - scroller.clientHeight / 2;
    });
    list.addEventListener("mouseover", ({ target }) => {
      const at = target.closest("li")?.querySelector("time");
      if (at) tell(Date.parse(at.dateTime) / 1000);
    });
    list.addEventListener("mouseleave", () => tell(null));
  }
}
