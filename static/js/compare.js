// The page Compare: one curve a session, the same colour and dash in every chart.
import { Chart, align, smooth } from "./charts.js";

const sessions = JSON.parse(document.getElementById("compare-data").textContent);
const TOKENS = 4;

function draw(key, xLabel, shape) {
  const curves = sessions.map(one => shape(one[key]));
  if (curves.every(curve => curve.y.every(value => value === null))) return;
  const series = sessions.map((one, index) => ({
    label: one.name, token: `--series-${index % TOKENS + 1}`, dash: Math.floor(index / TOKENS), points: xLabel === "epoch",
  }));
  new Chart(document.getElementById(`compare-${key}`), { xLabel, series }).draw(align(curves));
}

draw("loss", "step", smooth);
draw("val_loss", "epoch", curve => curve);
draw("val_accuracy", "epoch", curve => curve);
