// Overview: the readings of the machine, in place, once a second.
import { fill, markStale } from "./live.js";

const shownGpus = () => [...document.querySelectorAll("[data-gpu]")].map(card => card.dataset.gpu).join();

document.addEventListener("live:sample", ({ detail }) => {
  // A sampler that speaks again, or a GPU that came or went: the server draws the cards.
  const found = detail.gpus.map(gpu => gpu.uuid).join();
  if (document.querySelector("[data-silent]") || found !== shownGpus()) markStale();
  for (const scope of document.querySelectorAll("[data-host]")) fill(scope, detail);
  for (const gpu of detail.gpus) {
    for (const scope of document.querySelectorAll(`[data-gpu="${CSS.escape(gpu.uuid)}"]`)) fill(scope, gpu);
  }
});
