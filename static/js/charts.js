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

/** A running mean that forgets with the given weight: the trend under the noise. */
export function smooth({ x, y }, weight = 0.95) {
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
   *  limits: [{value, label}], dashed lines. */
  constructor(element, { xLabel, series, range, time = false, span = 0, height = HEIGHT, limits = [] }) {
    Object.assign(this, { element, xLabel, series, range, time, span, height, limits, data: null, spread: null });
    new ResizeObserver(() => this.plot?.setSize({ width: element.clientWidth, height })).observe(element);
    document.addEventListener("live:theme", () => this.rebuild());
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
    ctx.restore();
  }
}
