// Runs before the first paint, so that a chosen theme never flashes the other one.
{
  const root = document.documentElement;
  root.classList.add("js");
  try { root.dataset.theme = localStorage.getItem("theme") || "system"; } catch { /* storage blocked: system */ }
}
